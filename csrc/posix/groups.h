/* What the process-group backend needs of its platform: linux/groups.c, darwin/groups.c, freebsd/groups.c. */
#ifndef PJ_POSIX_GROUPS_H
#define PJ_POSIX_GROUPS_H

#include "core/process.h"

extern const unsigned pj_group_guarantees; /* bits of core/backend.h */

/* Appends the living members of all these groups, zombies left out, in no order. `groups` is sorted. */
int pj_group_members(const pj_pids *groups, pj_pids *out, pj_error *err);

/* Sends `sig` to the group that `leader` leads or led, by the identity of the leader and not by its number: right even
 * after the leader was reaped. 0, or -1 with errno; ESRCH: nobody, not even a zombie, is in it; ENOSYS: this system has
 * no such call. */
int pj_group_signal(const pj_process *leader, int sig);

#endif
