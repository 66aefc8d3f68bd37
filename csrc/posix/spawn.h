/* Starts a program as a child of the calling process; shared by cgroup, process-group and the guard. */
#ifndef PJ_POSIX_SPAWN_H
#define PJ_POSIX_SPAWN_H

#include <signal.h>

#include "posix/spec.h"

/* Where the child goes before it executes, besides what the spec says. */
typedef struct {
    int cgroup_fd;     /* Linux: directory descriptor of the leaf, or -1 */
    bool new_group;    /* process-group: setpgid(0, 0) unless the spec makes a session or names a group */
    int terminal;      /* process-group: descriptor of the terminal that the new group gets (tcsetpgrp), or -1 */
    int parent_death;  /* Linux guard: PR_SET_PDEATHSIG with this signal, or 0 */
    bool no_handlers;  /* the parent has none, as it was just executed: there is no signal to reset */
    const int *closed; /* descriptors that the child must close in any case (the guard's own); -1 ends it; or NULL */
} pj_place;

/* The result of the child's side, in memory that both share (or in a pipe where there is no vfork). */
typedef struct {
    volatile int started; /* the child ran its first instruction */
    volatile int code;    /* errno of the step that failed, 0: executed */
    volatile int stage;   /* PJ_STAGE_… */
    pid_t parent;         /* filled by the parent before: who must be alive for pj_place.parent_death */
} pj_verdict;

enum { /* what the child was at; its name is pj_child.stage */
       PJ_STAGE_OTHER,
       PJ_STAGE_CHDIR,
       PJ_STAGE_EXEC,
       PJ_STAGE_CGROUP,
       PJ_STAGE_FCNTL,
       PJ_STAGE_CLOSE,
       PJ_STAGE_DUP2,
       PJ_STAGE_SETSID,
       PJ_STAGE_SETPGID,
       PJ_STAGE_SETGROUPS,
       PJ_STAGE_SETGID,
       PJ_STAGE_SETUID,
       PJ_STAGE_PARENT_DEATH,
};

static inline const char *pj_stage_name(int stage) {
    static const char *const names[] = {"",     "chdir",  "exec",    "write cgroup.procs", "fcntl",    "close",
                                        "dup2", "setsid", "setpgid", "setgroups",          "setregid", "setreuid",
                                        "prctl"};
    return stage >= 0 && stage < (int)(sizeof names / sizeof *names) ? names[stage] : "";
}

/* Links with posix/child.c and the platform's start.c (posix/start.h). A freestanding program gives them, as bare
 * calls: chdir close dup2 execv execve fcntl getpid getppid getrlimit mmap munmap open openat prctl pthread_sigmask
 * (returns the error number) setpgid setsid sigaction syscall tcsetpgrp umask waitpid write _exit, errno, memset,
 * memcpy.
 *
 * clone3(VFORK|VM|INTO_CGROUP) where there is a cgroup_fd and the kernel takes it; else vfork, and a write to
 * cgroup.procs. A failed child is reaped here. out->child_errno/stage/path as in backend.h. */
int pj_spawn(const pj_spec *spec, const pj_place *place, pj_child *out, pj_error *err);

/* posix/child.c. Runs in the child, after vfork: async-signal-safe, does not return. `mask`: the caller's signal mask.
 */
_Noreturn void pj_child_exec(const pj_spec *spec, const pj_place *place, const sigset_t *mask, pj_verdict *verdict);

#endif
