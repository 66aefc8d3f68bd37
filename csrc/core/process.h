/* One process by identity, and trees by parentage. Implemented once per platform
 * (linux/process.c, linux/tree.c, darwin/, freebsd/, win/process.c, win/tree.c). */
#ifndef PJ_CORE_PROCESS_H
#define PJ_CORE_PROCESS_H

#include "core/deadline.h"
#include "core/error.h"
#include "core/pids.h"

typedef struct {
    pj_pid pid;
    intptr_t handle;  /* Linux: a pidfd, -1 below kernel 5.3; Windows: a HANDLE; elsewhere -1 */
    uint64_t created; /* start time in the system's own unit: identity together with pid where there is no handle */
    bool kernel;      /* as pj_process_open() found it: a kernel thread, which takes no signal */
} pj_process;

/* Pins the identity first, reads `created` after, looks again whether it lives. A PID that nobody has: ESRCH
 * (Windows: ERROR_INVALID_PARAMETER 87). A thread's id that leads no process: ESRCH. A zombie can be opened. */
int pj_process_open(pj_pid pid, pj_process *out, pj_error *err);
/* As pj_process_open(), but where a handle alone is the identity nothing else is read and `created` is 0: what
 * backend.contains() needs, at a tenth of the price. */
int pj_process_pin(pj_pid pid, pj_process *out, pj_error *err);
void pj_process_close(pj_process *process);
pj_pid pj_process_self(void);

/* *alive: false for zombies and the dead. Never blocks. */
int pj_process_alive(const pj_process *process, bool *alive, pj_error *err);

/* ESRCH when it is dead; EPERM/ERROR_ACCESS_DENIED when it may not be signalled. Windows knows SIGTERM (=15) and
 * SIGKILL (=9) as TerminateProcess(), CTRL_BREAK_EVENT (=1) and CTRL_C_EVENT (=0) as GenerateConsoleCtrlEvent(). */
int pj_process_signal(const pj_process *process, int sig, pj_error *err);

/* 0: ended, 1: the deadline passed, -1: error (EINTR included). *status: an exit code as in Popen.returncode
 * (negative: the signal), where the system tells it to us; *known says whether it did. Never reaps. */
int pj_process_wait(const pj_process *process, pj_deadline deadline, int *status, bool *known, pj_error *err);

/* What tells it from every other process that ever was, while its handle is open; 0: nothing but `created` does. */
uint64_t pj_process_unique(const pj_process *process);

/* Seconds since the epoch. */
int pj_process_created(const pj_process *process, double *seconds, pj_error *err);

/* Living children by parent PID, sorted. A child older than its parent is no child (a recycled parent PID). */
int pj_children(pj_pid pid, bool recursive, pj_pids *out, pj_error *err);

/* Whoever waits for something long. go_on() is asked after each signal and every PJ_SLICE, never while somebody is
 * stopped; false: the operation ends at once with an error (EINTR, ERROR_CANCELLED). */
typedef struct pj_caller {
    bool (*go_on)(struct pj_caller *self);
} pj_caller;

#define PJ_SLICE (100 * PJ_MS)

/* Ends all that is connected with `root` when reached: stop, scan, until a pass finds nobody new; then SIGKILL,
 * children first. Never the caller (unless it is the root: then last of all) nor an ancestor of the caller that is not
 * the root. 0: all dead; 1: the deadline passed, *survivors names who is left; nobody: they forked on while we stopped
 * them, and some may have got away. EPERM: there is only the root, or such others, and it may not be signalled.
 * *killed: whom we ended, root included; to be freed in any case. `caller` (or NULL: a signal changes nothing): `root`
 * is not used any more once it said no.
 */
int pj_kill_tree(const pj_process *root, bool include_root, pj_deadline deadline, pj_caller *caller, pj_pids *killed,
                 pj_pids *survivors, pj_error *err);

#endif
