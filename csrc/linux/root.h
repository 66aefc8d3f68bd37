/* The owner's root: the directory below the caller's own group that holds this process's leaves, with its guard, and
 * the empty leaves that are kept for use again. One per process, made with the first job; jobs hold a reference. */
#ifndef PJ_LINUX_ROOT_H
#define PJ_LINUX_ROOT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core/backend.h"
#include "linux/cgroupfs.h"
#include "linux/naming.h"

enum { PJ_POOL = 8, PJ_RESERVE = 2 };

typedef struct pj_lingerer { /* a directory that waits until nobody lives in it */
    struct pj_lingerer *next;
    char path[]; /* from the root */
} pj_lingerer;

/* One leaf stays open when it goes to the pool, and is the first to be used again: to open its directory and its
 * cgroup.events anew for each start would cost 3 % of one. */
typedef struct {
    unsigned long number; /* 0: none */
    uint64_t inode;
    int dir, events;
} pj_hot_leaf;

typedef struct {
    atomic_uint refs;
    pid_t owner;             /* whose it is: a forked child only lets go of it */
    uid_t user;              /* who made it */
    int home;                /* the group that the caller was in */
    int fd;                  /* `name` in it */
    int reserve[PJ_RESERVE]; /* closed where a kill finds no descriptor free, and opened again after */
    char name[PJ_ROOT_NAME];
    char *path;         /* as /proc/PID/cgroup shows it */
    char *where;        /* in the file system */
    uint64_t namespace; /* in which `path` means something */

    /* All below only with the platform's lock held. */
    pj_process guard;
    bool guarded;     /* has had one */
    char *guard_path; /* its executable */
    bool proved;      /* by pj_cgroup_prove() */
    unsigned jobs;    /* open ones */
    unsigned held;    /* of those, how many took the caller in */
    unsigned long made;
    unsigned long pool[PJ_POOL]; /* numbers of empty leaves, exactly as they were made */
    unsigned pooled;
    pj_hot_leaf hot; /* the job that uses it reads this without the lock, and alone may end it */
    pj_lingerer *lingering;
} pj_root;

typedef struct pj_text {
    struct pj_text *next;
    char text[];
} pj_text;

struct pj_platform {
    /* Held by whatever changes the below, moves the caller, or kills where the caller might be. Never while waiting. */
    pthread_mutex_t lock;
    pj_root *root;
    pj_text *texts; /* names of failed calls that contain a path: pj_error wants them to live on */
};

/* With the lock held. The root in use, made if need be; the caller gets no reference of its own. */
int pj_root_get(pj_platform *platform, pj_root **out, pj_error *err);
void pj_root_forget(pj_platform *platform); /* the next pj_root_get() makes another */
void pj_root_unref(pj_root *root);          /* without a lock: closes and frees, removes nothing */

void pj_root_reserve(pj_root *root); /* with the lock held, as is: */
void pj_root_spend(pj_root *root);

/* With the lock held. Starts a guard unless one is alive. */
int pj_root_guard(pj_platform *platform, pj_root *root, const char *guard, pj_error *err);
bool pj_root_watch(pj_platform *platform, pj_root *root); /* the same where there was one before; false: that failed */

/* With the lock held: to remove a directory when it is empty; and a look at a few of those that wait. */
void pj_root_linger(pj_root *root, const char *path);
void pj_root_tidy(pj_root *root, unsigned most);

/* With the lock held: a leaf that is as it was made, for use again; the last of those. 0: there is none. */
void pj_root_pool(pj_root *root, unsigned long number, uint64_t inode);
unsigned long pj_root_unpool(pj_root *root);
void pj_root_cool(pj_root *root); /* closes the hot leaf */

/* With the lock held, when the last job was closed: a root without a guard is removed, as nobody else would. */
void pj_root_retire(pj_platform *platform, pj_root *root);

/* Without a lock, when nothing refers to the platform any more, in the owner or in a forked child of it: lets go of the
 * root, and where nobody is in it, removes it and ends the guard, which else waits for the owner's end. */
void pj_root_end(pj_platform *platform);

/* Whether the owner named by a root's name lives: 1 yes, 0 no, -1 it is in another PID namespace, or hidden from us. */
int pj_root_owner_lives(const char *name);

#endif
