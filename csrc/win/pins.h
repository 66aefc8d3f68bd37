/* Pinned processes: a PID cannot be given to another process while a handle to its process is open. */
#ifndef PJ_WIN_PINS_H
#define PJ_WIN_PINS_H

#include "win/handle.h"

/* Opens with the best rights that the system grants: those to end and assign it, else to look at it and wait for it.
 * NULL with *code: PJ_E_GONE when nobody has this PID (a thread's id included), ERROR_ACCESS_DENIED when refused. */
HANDLE pj_handle_pin(pj_pid pid, DWORD *code);

typedef struct {
    pj_pid pid;
    HANDLE handle;
} pj_pin;

typedef struct {
    pj_pin *items;
    size_t count, room;
} pj_pins;

bool pj_pins_add(pj_pins *pins, pj_pid pid, HANDLE handle); /* takes the handle; false: out of memory, it does not */
void pj_pins_wait(pj_pins *pins, pj_deadline deadline);     /* drops those that have ended */
void pj_pins_free(pj_pins *pins);                           /* leaves an empty list */

#endif
