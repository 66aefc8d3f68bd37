/* What each backend implements. One table of functions per backend; a platform lists its own in ladder order.
 *
 * Rules for every operation, unless it says otherwise:
 *  - returns 0, or -1 with *err filled; outputs are untouched on failure;
 *  - may be called from any thread, at the same time as any other operation but close() and abandon();
 *  - is called with the GIL released, and only in the process that made the job (the binding sees to both);
 *  - blocks only up to its deadline; EINTR comes back as an error, the caller looks at its signals and calls again. */
#ifndef PJ_CORE_BACKEND_H
#define PJ_CORE_BACKEND_H

#include <stdatomic.h>
#include <stdlib.h>

#include "core/process.h"

/* Bits of pj_probe.guarantees, and of pj_job.denied. */
enum {
    PJ_INHERITED = 1 << 0,
    PJ_ESCAPE_PROOF = 1 << 1,
    PJ_DIES_WITH_OWNER = 1 << 2,
    PJ_ATOMIC_KILL = 1 << 3,
    PJ_OWN_CHILD = 1 << 4,
    PJ_ASSIGN = 1 << 5,
    PJ_NAMED = 1 << 6,
    PJ_COMPLETE_LIST = 1 << 7,
    PJ_PINNED = 1 << 8, /* signals go to pinned identities (pidfd, handle), never to bare PIDs */
};

typedef struct pj_backend pj_backend;
typedef struct pj_walk pj_walk;
typedef struct pj_spec pj_spec; /* posix/spec.h, win/spec.h */

/* The head of every backend's own job struct. */
typedef struct pj_job {
    const pj_backend *backend;
    struct pj_job *parent; /* or NULL; may be closed before this one, its memory stays (pj_job_unref) */
    atomic_uint refs;      /* itself while open, and its children */
    /* Read by other threads while an operation changes them. */
    atomic_bool keep;         /* not kill_on_close: the members outlive the owner */
    atomic_bool holds_caller; /* after assign_self() */
    atomic_uint denied;       /* guarantees of the backend that this job has lost */
} pj_job;

/* A job may be closed before the jobs inside it: create() refers to its parent, close() and abandon() end with
 * pj_job_unref(), which frees the memory (from calloc) when nobody refers to it any more. */
static inline void pj_job_init(pj_job *job, const pj_backend *backend, pj_job *parent, bool keep) {
    job->backend = backend;
    job->parent = parent;
    job->keep = keep;
    atomic_init(&job->refs, 1);
    if (parent) {
        atomic_fetch_add(&parent->refs, 1);
    }
}

static inline void pj_job_unref(pj_job *job) {
    while (job && atomic_fetch_sub(&job->refs, 1) == 1) {
        pj_job *parent = job->parent;
        free(job);
        job = parent;
    }
}

typedef struct {
    bool available;
    unsigned guarantees;
    char why[256];  /* why it is not available, or "" */
    char help[256]; /* what would help, or "" */
} pj_probe;

/* What a platform keeps for the whole process (cgroup: the owner's root, its guard, the pool of leaves). The binding
 * makes one per module, which is one per interpreter, and passes it to create(); NULL where a platform needs none.
 * pj_platform_free() gives back what nobody lives in, without waiting; what is left goes with the process. */
typedef struct pj_platform pj_platform;
pj_platform *pj_platform_new(void); /* NULL: out of memory */
void pj_platform_free(pj_platform *platform);
void pj_platform_forked(pj_platform *platform); /* in a forked child: forgets the parent's, lockless */

typedef struct {
    pj_platform *platform;
    pj_job *parent;   /* same backend, or NULL */
    const char *name; /* UTF-8, checked by the caller: 1 to 100 bytes, no '/', no '\\', no NUL; or NULL */
    bool keep;
    const char *guard; /* path of the pyjob-guard executable; unused on Windows */
} pj_create;

typedef struct {
    pj_process process; /* handle: on Windows the process handle; else -1 */
    intptr_t thread;    /* Windows: the main thread's handle, with dwThreadId in thread_id; else 0 */
    pj_pid thread_id;
    const char *path;  /* how it was started: "clone3", "vfork", "guard", "job-list", "suspended" */
    int child_errno;   /* POSIX: not 0: the program could not be started, and nothing of it is left */
    const char *stage; /* POSIX: what failed in the child: "exec", "chdir", or another call; "" unknown */
} pj_child;

struct pj_backend {
    const char *name;

    void (*probe)(const char *guard, pj_probe *out);

    int (*create)(const pj_create *how, pj_job **out, pj_error *err);
    int (*open)(const char *name, pj_job **out, pj_error *err); /* NULL: no names. ENOENT: no such job. keep is true */

    /* Starts a program that is a member from its first instruction. 0 with child_errno set: refused in the child. */
    int (*spawn)(pj_job *job, const pj_spec *spec, pj_child *out, pj_error *err);

    /* Only without PJ_OWN_CHILD, for preexec_fn: spawn() in three steps. The owner prepares; a grandchild that it
     * forked calls exec(), which forks again: the grandchild becomes the guard, and what returns, with 0 (else an
     * errno), is its child, which goes on to be the program; the owner finishes, with spawn()'s result. */
    int (*prepare)(pj_job *job, const pj_spec *spec, pj_error *err);
    int (*exec)(pj_job *job);
    int (*finish)(pj_job *job, pj_child *out, pj_error *err);

    /* In a child that the caller forked by itself (preexec_fn), before it executes: moves the calling process in.
     * Async-signal-safe. NULL: not possible (reaper). */
    int (*join)(pj_job *job, pj_error *err);

    /* Moves a living process in; it is looked at again after the move. ESRCH: it is dead. NULL: not possible. */
    int (*assign)(pj_job *job, const pj_process *process, pj_error *err);
    int (*assign_self)(pj_job *job, pj_error *err);

    int (*list)(pj_job *job, pj_pids *out, pj_error *err); /* living members, the caller included; sorted */

    /* Whether a pinned process is a living member. */
    int (*contains)(pj_job *job, const pj_process *process, bool *out, pj_error *err);

    /* contains(), by who asks for many, one after another: *walk begins as NULL, keeps what is learnt, and goes back by
     * walk_end() at last, also after the job is closed. Not from two threads at once. Whoever is younger than the walk
     * is not inside. NULL: contains() does it. */
    int (*walk)(pj_job *job, pj_walk **walk, const pj_process *process, bool *out, pj_error *err);
    void (*walk_end)(pj_walk *walk);

    /* One pass: each member pinned, verified, then signalled, at most once; not the caller, not the guard.
     * Whom we may not signal is passed over. */
    int (*signal)(pj_job *job, int sig, pj_error *err);

    /* Ends every member but the caller. 0: they are dead; 1: the deadline passed, *survivors names who is left. A
     * deadline that has passed already still means one whole attempt, without waiting. Can be called again. */
    int (*kill)(pj_job *job, pj_deadline deadline, pj_pids *survivors, pj_error *err);

    /* 0: no member but the caller lives; 1: the deadline passed. */
    int (*wait)(pj_job *job, pj_deadline deadline, pj_error *err);

    /* NULL where the caller may reap the program by itself. The exit status of the program that spawn() started, as
     * Popen.returncode. After it the PID may be recycled. 0: collected (again and again the same); 1: the deadline
     * passed. ECHILD: nobody knows. */
    int (*collect)(pj_job *job, pj_deadline deadline, int *returncode, pj_error *err);

    /* Together with collect(): signals that program, whose identity spawn() has pinned. ESRCH: it has ended. */
    int (*signal_program)(pj_job *job, int sig, pj_error *err);

    /* NULL where nobody has to be looked after. A guard that was killed is replaced, where that is possible; returns
     * the guarantees that went with it. */
    unsigned (*watch)(pj_job *job);

    /* The members live on without owner and guard; sets keep. */
    int (*release)(pj_job *job, pj_error *err);

    /* Lets go, without killing (the caller did, if it wanted to): a caller inside returns to its former place where the
     * system allows; what the job has in the system is removed, now or, while members live, later. Ends with
     * pj_job_unref(). */
    void (*close)(pj_job *job);

    /* In a forked child, where it takes no lock, or at the end of the interpreter: closes descriptors, frees, touches
     * nothing of the system's. Ends with pj_job_unref(). */
    void (*abandon)(pj_job *job);
};

extern const pj_backend *const pj_backends[]; /* ends with NULL; linux/backends.c, bsd/…, win/… */

#endif
