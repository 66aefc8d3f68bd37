/* Starts pyjob-guard (csrc/guard) from the calling thread, as nobody's child: no os.wait() ever sees it. */
#ifndef PJ_LINUX_GUARD_H
#define PJ_LINUX_GUARD_H

#include "core/process.h"

/* Executes `path` with an empty environment. It keeps the limits, affinity, umask, directory, nice value and
 * credentials of the calling thread; begins with every signal blocked and whatever was ignored still ignored; has its
 * own descriptor table, in which those of `inherit` (-1 ends it) lose close-on-exec, at the same numbers.
 * Other descriptors without close-on-exec come along: it closes them.
 *
 * Its parent is init (or the nearest subreaper). Where that would be the caller itself, which is PID 1 or a subreaper,
 * a parked process stays between them: one that wait() neither returns nor waits for, as its exit signal is 0, and that
 * is collected by pj_guard_collect().
 *
 * 0: it runs its own code; guard->handle is a pidfd that names no other process. Below kernel 5.2, which cannot hand
 * one out, handle is -1 and `created` the start time; else `created` is 0, for the caller to fill if it wants it.
 * Errors: clone(2) EAGAIN, ENOMEM; execve(2) ENOENT, EACCES and others, as call "execve (pyjob-guard)". */
int pj_guard_start(const char *path, char *const argv[], const int *inherit, pj_process *guard, pj_error *err);

/* Collects the parked processes whose guard has ended. Never blocks, takes no status that belongs to another. */
void pj_guard_collect(void);

/* The name of a parked process, in /proc/PID/comm. */
#define PJ_GUARD_PARKED "pyjob-parked"
bool pj_guard_is_parked(pj_pid pid);

/* Whether orphans of our tree become our children: we are PID 1 of this PID namespace, or a subreaper. */
bool pj_guard_adoptive(void);

#endif
