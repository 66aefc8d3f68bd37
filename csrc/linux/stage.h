/* Where assign() finds out whom it has moved.
 *
 * The kernel moves by number, so whoever is in a new directory `in-N` after the move may be a stranger, until the owner
 * has seen that the process it meant lives. So long the directory has the set-user-ID mode bit, and who is in it is no
 * member: not listed, not signalled. cgroup.kill of a leaf around would not go round it. So assign() holds a shared
 * flock on each leaf around, and who kills takes it exclusively; a stage found then was left behind by an owner that
 * was killed, and is emptied first. Roots have the bit, too: who is put out goes to where the outermost one lies, for
 * no job of ours is around that.
 *
 * Linked into the guard, too: see sweep.h. */
#ifndef PJ_LINUX_STAGE_H
#define PJ_LINUX_STAGE_H

#include <sys/stat.h>

#include "linux/sweep.h"

#define PJ_STAGE_PREFIX "in-"

bool pj_dir_is_stage(const pj_dir *dir, mode_t mode); /* and not yet part of the job */

/* flock(2) that never waits; -1: EWOULDBLOCK, or it cannot be opened. Whoever may open a file may lock it, so it is on
 * cgroup.kill, whose mode is 0200; on the directory only where there is none (below Linux 5.14), or where we may not
 * open it, and so not kill by it. */
int pj_leaf_lock(pj_dir *leaf, int how);
void pj_leaf_unlock(int lock); /* not by close() alone: a fork in another thread may hold the descriptor, too */

/* Until pj_leaf_unlock() nobody is in the leaf, or below, who is not a member. -1: not to be had now. */
int pj_leaf_seal(pj_dir *leaf);

#endif
