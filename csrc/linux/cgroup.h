/* The backend `cgroup`: a job is a leaf of the v2 hierarchy. See root.h for where leaves are, sweep.h for their life
 * after the owner's. What is in cgroup*.c is: cgroup.c the table, and the life of a job; cgroup_look.c who is a member;
 * cgroup_kill.c; cgroup_move.c assign and assign_self; cgroup_probe.c; names.c the registry of named jobs. */
#ifndef PJ_LINUX_CGROUP_H
#define PJ_LINUX_CGROUP_H

#include "linux/root.h"

extern const pj_backend pj_cgroup_backend;

enum { PJ_KNOWN_GROUPS = 16 };

typedef struct {
    pj_job head;
    pj_platform *platform; /* NULL: opened by name */
    pthread_mutex_t *lock; /* the platform's, or own_lock: see struct pj_platform */
    pthread_mutex_t own_lock;
    pj_root *root; /* NULL: opened by name */
    int base;      /* the root's descriptor; opened by name: the leaf's own */
    char *path;    /* from there; "" is base itself */
    char *proc;    /* as /proc/PID/cgroup shows it, in this namespace: */
    uint64_t namespace;
    uint64_t inode;                           /* which is also the id of the group (64 bit kernels) */
    _Atomic uint64_t below[PJ_KNOWN_GROUPS];  /* ids of groups in it, */
    _Atomic uint64_t beside[PJ_KNOWN_GROUPS]; /* and not in it */
    unsigned long number;                     /* of a leaf that may go to the pool; 0: nested */
    unsigned long made;                       /* opened by name: directories inside it, else the root counts */
    atomic_bool killed;     /* by cgroup.kill: not to be used again, as kernels from 6.14 on count these */
    char *name;             /* in the registry, or NULL */
    int former;             /* where the caller came from, or -1 */
    const pj_hot_leaf *hot; /* its own leaf, open; or NULL */
} pj_cgroup_job;

/* Inside a leaf: job-N nested jobs, self-N where the caller lives, in-N one for each assigned process (stage.h). */
#define PJ_SELF_PREFIX "self-"

static inline pj_dir *pj_leaf(const pj_cgroup_job *job, pj_dir *dir) {
    (void)pj_dir_set(dir, job->base, job->path); /* it fitted when the job was made */
    return dir;
}

/* Moves the directory's name on to a new one in it, `prefix` and a number. With the lock held. */
int pj_cgroup_make(pj_cgroup_job *job, pj_dir *dir, const char *prefix, pj_error *err);

/* By the way of whatever the owner calls. Waits for nobody who has the lock: there will be a next call. */
void pj_cgroup_watch(pj_cgroup_job *job);

/* cgroup_look.c */
int pj_cgroup_list(pj_job *job, pj_pids *out, pj_error *err);
int pj_cgroup_contains(pj_job *job, const pj_process *process, bool *out, pj_error *err);
int pj_cgroup_signal(pj_job *job, int sig, pj_error *err);
int pj_cgroup_wait(pj_job *job, pj_deadline deadline, pj_error *err);
int pj_cgroup_others(pj_cgroup_job *job, pj_pids *out, pj_error *err); /* members but the caller */
bool pj_cgroup_empty(const pj_cgroup_job *job); /* false also where it is gone, or not to be read */
bool pj_cgroup_idle(const pj_cgroup_job *job);  /* empty, and who came would run */

int pj_cgroup_await(pj_cgroup_job *job, pj_deadline deadline, pj_error *err); /* as wait(), but they may be dying yet */
void pj_cgroup_settle(pj_cgroup_job *job, const pj_pids *seen);               /* until former members are quite dead */

/* Whether the caller is in it: *rest is what its own path has below the job's ("" or "/…"). A refused look is an error.
 */
int pj_cgroup_caller(const pj_cgroup_job *job, bool *inside, char rest[PJ_CGROUP_PATH], pj_error *err);

/* cgroup_kill.c */
int pj_cgroup_kill(pj_job *job, pj_deadline deadline, pj_pids *survivors, pj_error *err);

/* cgroup_move.c. pj_cgroup_enter(): with the lock held, the caller into a new directory `self-N` in `dir`, which then
 * names that. */
int pj_cgroup_assign(pj_job *job, const pj_process *process, pj_error *err);
int pj_cgroup_assign_self(pj_job *job, pj_error *err);
int pj_cgroup_enter(pj_cgroup_job *job, pj_dir *dir, pj_error *err);
void pj_cgroup_return(pj_cgroup_job *job); /* with the lock held: out again, where the system allows */

/* cgroup_probe.c. pj_cgroup_prove(): whether the new root `name` in `home` can hold all that a job takes, by making it
 * once and for nothing. EOPNOTSUPP: threaded; EAGAIN: limits; ENOENT: the root was removed. */
int pj_cgroup_prove(int home, const char *name, pj_error *err);
void pj_cgroup_probe(const char *guard, pj_probe *out);

/* names.c: names of jobs, per user. EEXIST and ENOENT as in backend.h. */
int pj_name_claim(const char *name, const pj_cgroup_job *job, pj_error *err);
int pj_name_find(const char *name, pj_cgroup_job *job, pj_error *err); /* fills base, proc, namespace, inode */
void pj_name_drop(const char *name, const pj_cgroup_job *job, bool empty);

#endif
