/* A growing list of process ids. */
#ifndef PJ_CORE_PIDS_H
#define PJ_CORE_PIDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t pj_pid; /* wide enough for pid_t and DWORD alike */

typedef struct {
    pj_pid *items;
    size_t count, room;
} pj_pids;

bool pj_pids_add(pj_pids *list, pj_pid pid); /* false: out of memory, the list is as before */
void pj_pids_sort(pj_pids *list);            /* ascending, duplicates removed */
bool pj_pids_has(const pj_pids *sorted, pj_pid pid);
void pj_pids_free(pj_pids *list); /* leaves an empty list */

#endif
