/* Control group directories, and what is done to an owner's root once the owner is gone.
 *
 * Linked into the owner and into the freestanding guard alike, so sweep.c needs no more than: errno, openat, read,
 * write, close, lseek, unlinkat, fstatat, fstat, fstatfs, poll, flock, kill, syscall, memcpy, memcmp, strlen, strcmp,
 * and pj_parse_stat() of procfs.c. All calls work on a path relative to a descriptor; all return -1 with errno set on
 * failure. Nothing here is shared between threads. */
#ifndef PJ_LINUX_SWEEP_H
#define PJ_LINUX_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "linux/procfs.h"

/* A directory named from `base`. A walk appends names and takes them off again. */
typedef struct {
    int base;
    size_t length;
    const char *call; /* the last one made by it: where a function of below fails, the one that failed */
    char text[4096];
} pj_dir;

#define PJ_DIR_DEPTH 64 /* levels that a walk goes down; below them it fails with ELOOP */

bool pj_dir_set(pj_dir *dir, int base, const char *path);  /* false: ENAMETOOLONG */
bool pj_dir_enter(pj_dir *dir, const char *name);          /* appends; false: ENAMETOOLONG, unchanged */
void pj_dir_leave(pj_dir *dir, size_t length);             /* back to an earlier length */
const char *pj_dir_name(const pj_dir *dir);                /* its last part */
int pj_dir_open(pj_dir *dir, const char *file, int flags); /* a file in it; file NULL: the directory */
ssize_t pj_dir_read(pj_dir *dir, const char *file, char *text, size_t room); /* up to room - 1 bytes, NUL added */
int pj_dir_write(pj_dir *dir, const char *file, const char *text);

/* Calls visit for each directory in `dir`, which then names that one. A visit that returns not 0 ends the walk with
 * that value. It may remove the directory it is at, and may call pj_dir_each again with the depth that it was given. */
typedef int (*pj_visit)(pj_dir *dir, unsigned depth, void *arg);
int pj_dir_each(pj_dir *dir, unsigned depth, pj_visit visit, void *arg);

/* Calls take for each process id of cgroup.procs of this directory alone; ids outside our PID namespace are left out.
 */
int pj_dir_procs(pj_dir *dir, pj_take take, void *arg);

int pj_event(const char *text, const char *key); /* from cgroup.events; -1: not there */
int pj_dir_populated(pj_dir *dir);               /* 1: processes in it or below; 0: none, or the directory is gone */
int pj_dir_remove_unpopulated(pj_dir *dir); /* only if nobody is in it or below: members may just be making groups */
int pj_dir_remove(pj_dir *dir); /* with all that is in it, deepest first; gone already is success; EBUSY: populated */

/* Kills everything in it and below, once: fork may have outrun it below Linux 6.14, so ask pj_dir_populated() and
 * repeat. By cgroup.kill; where there is none (below 5.14) frozen and killed one by one. *atomic, if given: by
 * cgroup.kill. */
int pj_dir_kill(pj_dir *dir, bool *atomic);
int pj_dir_kill_each(pj_dir *dir);   /* the second way alone */
int pj_dir_kill_seen(pj_dir *dir);   /* one pass over it and all below, stages of assign() left out: see stage.h */
int pj_dir_kill_listed(pj_dir *dir); /* one pass over those directly in it, each pinned and then verified */

/* An owner's root: a directory with one directory per job (leaf), and nested jobs' leaves inside their parent's.
 * A leaf whose directory has the sticky mode bit was released: what is in it stays; of what is nested in it, unreleased
 * leaves are ended all the same, and groups of other names are its members' own affair. */
#define PJ_LEAF_PREFIX "job-"

/* The guard's part of the protocol, `pyjob-guard cgroup OWNER ROOT READY`: three inherited descriptors by number.
 *   pj_sweep_lock(ROOT), one byte to READY, close READY; pj_owner_wait(OWNER) == 0; pj_sweep(ROOT, -1).
 * OWNER is a pidfd or, where the owner could get none, its /proc/PID/stat, opened by itself: it names that process for
 * ever. */

/* The owner and its guard each hold a shared flock on the root. Who gets an exclusive one knows that neither is there.
 * Both by a description of their own, whose descriptor is returned. */
int pj_sweep_trylock(int root); /* exclusive; EWOULDBLOCK: taken */
int pj_sweep_lock(int root);    /* the guard's; tries for a second: somebody may be looking whether it is free */
int pj_owner_wait(int owner);   /* 0: the owner is dead, zombies included; -1: it cannot be watched. EINTR is retried */
int pj_sweep(int root, int most); /* kills unreleased leaves, removes all empty ones, then the root, for at most so many
                                     milliseconds, -1: until done. 0: no unreleased leaf is left, 1: time is up */

#endif
