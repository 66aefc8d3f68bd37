#include "posix/start.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

const int pj_signal_end = _SIG_MAXSIG + 1;

bool pj_start_separate(const pj_spec *spec) {
    (void)spec;
    return false;
}

pid_t pj_start(int cgroup_fd, bool separate, void (*run)(void *), void *arg) {
    (void)separate;
    if (cgroup_fd >= 0) {
        errno = ENOSYS;
        return -1;
    }
    /* As subprocess does: run() makes system calls alone and does not return. posix_spawn(3) has no step for a user, a
     * session or a directory that must be blamed by itself. */
    pid_t pid = vfork(); /* NOLINT(*-unsafe-functions,*vfork) */
    if (pid == 0) {
        run(arg); /* NOLINT(clang-analyzer-unix.Vfork) */
    }
    return pid;
}

/* Closed at once: the child has a table of its own, and nothing in it is needed before the exec. close_range(2) */
void pj_child_close(int first, const int *keep, size_t count) {
    unsigned from = (unsigned)first;
    for (size_t i = 0; i < count; i++) {
        unsigned fd = (unsigned)keep[i];
        if (fd < from) {
            continue;
        }
        if (fd > from) {
            close_range(from, fd - 1, 0);
        }
        from = fd + 1;
    }
    close_range(from, UINT_MAX, 0);
}
