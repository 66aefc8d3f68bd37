/* How a guard is started.
 *
 *   owner --clone(VM|VFORK|FILES, exit signal 0)--> intermediate --clone(VM|VFORK|PIDFD, SIGCHLD)--> guard: execve
 *
 * The intermediate exits as soon as the guard runs, so that init becomes the guard's parent. As its own exit signal is
 * not SIGCHLD, wait(-1) overlooks it (wait(2), __WCLONE), a thread of the caller in wait() included. It shares the
 * owner's descriptor table, so the pidfd that the kernel makes together with the guard (CLONE_PIDFD, 5.2) appears in
 * the owner without a race. The guard gets a copy of the table, so close-on-exec is taken off there without any other
 * thread of the owner noticing. Nothing of the owner's memory is copied, however much it has.
 *
 * PARKED. When the owner is a subreaper or PID 1, a guard that lost its parent would become a visible child of the
 * owner after all. There the intermediate stays, until the guard ends. A process that called execve() gets SIGCHLD as
 * its exit signal again, so it cannot be one with memory of its own; it keeps sharing the owner's, on a stack that it
 * unmaps when it leaves, holds no descriptor, and sleeps with every signal blocked. Once `done` is set it runs beside
 * the owner, with the same thread-local storage: from there on only raw system calls, which write no errno.
 *
 * ASYNC-SIGNAL-SAFETY. intermediate() and execute() run in memory that belongs to a thread of the owner, while other
 * threads may hold any lock: only system calls, no allocation. Every signal is blocked, so no handler of the owner runs
 * there. */
#define _GNU_SOURCE 1
#include "linux/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux/pidref.h"
#include "linux/procfs.h"
#include "linux/raw.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

enum { STACK = 8192 };

typedef struct {
    _Alignas(16) char guard[STACK];
    _Alignas(16) char intermediate[STACK];
} stacks;

typedef struct {
    const char *path;
    char *const *argv;
    const int *inherit;
    stacks *stacks;
    int clone_errno, exec_errno;
    pid_t guard;
    int pidfd;
    _Atomic unsigned done; /* only for the parked */
} start;

/* The guard, until it runs its own code. */
static int execute(void *arg) {
    start *s = arg;
    char *none[] = {NULL};
    for (const int *fd = s->inherit; *fd >= 0; fd++) {
        fcntl(*fd, F_SETFD, 0);
    }
    execve(s->path, s->argv, none);
    s->exec_errno = errno;
    _exit(127);
}

static void clone_guard(start *s) {
    void *top = s->stacks->guard + sizeof s->stacks->guard;
    int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
    s->guard = clone(execute, top, flags | CLONE_PIDFD, s, &s->pidfd);
    if (s->guard < 0 && (errno == EINVAL || errno == EPERM || errno == ENOSYS)) { /* a filter that knows no pidfd */
        s->guard = clone(execute, top, flags, s);
    }
    if (s->guard < 0) {
        s->clone_errno = errno;
    } else if (s->exec_errno != 0) {
        waitpid(s->guard, NULL, 0);
    }
}

static int intermediate(void *arg) {
    clone_guard(arg);
    return 0;
}

/* Nothing of the owner's is held open by a parked process. */
static void let_go_of_descriptors(void) {
    if (pj_raw(PJ_SYS_CLOSE_RANGE, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0) == 0) {
        return;
    }
    struct {
        unsigned long now, most;
    } limit = {1024, 1024};
    if (pj_raw(SYS_unshare, CLONE_FILES, 0, 0, 0, 0, 0) == 0) { /* below kernel 5.9 */
        pj_raw(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, (long)&limit, 0, 0);
        for (unsigned long fd = 0; fd < limit.now && fd < 1UL << 20; fd++) {
            pj_raw(SYS_close, (long)fd, 0, 0, 0, 0, 0);
        }
    }
}

static int parked(void *arg) {
    start *s = arg;
    stacks *own = s->stacks;
    clone_guard(s);
    pid_t guard = s->exec_errno == 0 ? s->guard : -1;
    if (guard > 0) {
        prctl(PR_SET_NAME, PJ_GUARD_PARKED);
        let_go_of_descriptors();
        pj_raw(SYS_chdir, (long)"/", 0, 0, 0, 0, 0);
    }
    atomic_store(&s->done, 1);
    pj_raw(SYS_futex, (long)&s->done, FUTEX_WAKE, 1, 0, 0, 0); /* at worst the address is nobody's by now: no harm */
    while (guard > 0 && pj_raw(SYS_wait4, guard, 0, __WALL, 0, 0, 0) == -EINTR) {
    }
    pj_raw_leave(own, sizeof *own);
}

bool pj_guard_adoptive(void) {
    int subreaper = 0;
    return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper != 0);
}

static int start_passing(start *s, pj_error *err) {
    stacks both;
    s->stacks = &both;
    pid_t between =
        clone(intermediate, both.intermediate + sizeof both.intermediate, CLONE_VM | CLONE_VFORK | CLONE_FILES, s);
    if (between < 0) {
        return pj_fail(err, errno, "clone");
    }
    while (waitpid(between, NULL, __WALL) < 0 && errno == EINTR) {
    }
    return 0;
}

static int start_parked(start *s, pj_error *err) {
    stacks *own = mmap(NULL, sizeof *own, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (own == MAP_FAILED) {
        return pj_fail(err, errno, "mmap");
    }
    s->stacks = own;
    pid_t between = clone(parked, own->intermediate + sizeof own->intermediate, CLONE_VM | CLONE_FILES, s);
    if (between < 0) {
        int code = errno;
        munmap(own, sizeof *own);
        return pj_fail(err, code, "clone");
    }
    const struct timespec look = {0, 100 * 1000 * 1000};
    while (atomic_load(&s->done) == 0) {
        /* No errno is written here either: the other side has the same one. */
        pj_raw(SYS_futex, (long)&s->done, FUTEX_WAIT, 0, (long)&look, 0, 0);
        siginfo_t ended = {0};
        if (pj_raw(SYS_waitid, P_PID, between, (long)&ended, WEXITED | WNOHANG | WNOWAIT | __WALL, 0, 0) == 0 &&
            ended.si_pid == between && atomic_load(&s->done) == 0) {
            s->clone_errno = ECHILD; /* somebody killed it before it came so far */
            break;
        }
    }
    if (s->clone_errno != 0 || s->exec_errno != 0) {
        while (waitpid(between, NULL, __WALL) < 0 && errno == EINTR) {
        }
    }
    return 0;
}

static int take_result(start *s, pj_process *guard, pj_error *err) {
    if (s->clone_errno != 0 || s->exec_errno != 0) {
        if (s->pidfd >= 0) {
            close(s->pidfd);
        }
        return s->clone_errno != 0 ? pj_fail(err, s->clone_errno, "clone")
                                   : pj_fail(err, s->exec_errno, "execve (pyjob-guard)");
    }
    pj_stat stat = {0};
    s->pidfd = pj_above_standard(s->pidfd);
    if (s->pidfd < 0 && pj_procfs_stat(s->guard, &stat, err) < 0) {
        return -1;
    }
    *guard = (pj_process){.pid = s->guard, .handle = s->pidfd, .created = stat.start};
    return 0;
}

int pj_guard_start(const char *path, char *const argv[], const int *inherit, pj_process *guard, pj_error *err) {
    start s = {.path = path, .argv = argv, .inherit = inherit, .pidfd = -1};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int done;
    if (pj_guard_adoptive()) {
        pj_guard_collect();
        done = start_parked(&s, err);
    } else {
        done = start_passing(&s, err);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return done < 0 ? -1 : take_result(&s, guard, err);
}

bool pj_guard_is_parked(pj_pid pid) {
    char path[40], name[sizeof PJ_GUARD_PARKED + 1];
    snprintf(path, sizeof path, "/proc/%lld/comm", (long long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, name, sizeof name);
    close(fd);
    return got == sizeof PJ_GUARD_PARKED && memcmp(name, PJ_GUARD_PARKED "\n", sizeof name - 1) == 0;
}

void pj_guard_collect(void) {
    siginfo_t ended = {0};
    while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT | __WCLONE) == 0 && ended.si_pid != 0) {
        if (!pj_guard_is_parked(ended.si_pid) ||
            waitid(P_PID, (id_t)ended.si_pid, &ended, WEXITED | WNOHANG | __WCLONE) != 0) {
            return;
        }
        ended.si_pid = 0;
    }
}
