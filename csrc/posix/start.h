/* What spawn.c and child.c need of their platform: linux/start.c, darwin/start.c, freebsd/start.c.
 * All but pj_start() and pj_start_separate() run in the child: async-signal-safe, and safe with the caller's memory. */
#ifndef PJ_POSIX_START_H
#define PJ_POSIX_START_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "posix/spec.h"

extern const int pj_signal_end; /* one more than the highest signal */

/* Whether a child started with this spec must have its own memory; what it shall tell must then be in a shared mapping.
 */
bool pj_start_separate(const pj_spec *spec);

/* Runs run(arg), which must not return, in a new child of the caller, on the caller's stack and (unless `separate`) in
 * the caller's memory. Returns when the child has executed or ended, as vfork() does: its PID, or -1 with errno. The
 * caller has blocked all signals. `cgroup_fd`: born in this leaf; -1: in the caller's cgroup. */
pid_t pj_start(int cgroup_fd, bool separate, void (*run)(void *), void *arg);

/* Each changes this process alone (glibc's own would signal every thread of the parent). 0, or -1 with errno. */
int pj_child_setgroups(size_t count, const gid_t *groups);
int pj_child_setgid(gid_t gid); /* real, effective and saved */
int pj_child_setuid(uid_t uid);

/* From here on the death of the parent sends us `sig`. Dead already: ESRCH. */
int pj_child_parent_death(int sig, pid_t parent);

/* Closes every descriptor from `first` on that is not in `keep` (ascending). */
void pj_child_close(int first, const int *keep, size_t count);

#endif
