/* fork(2) that waits as vfork(2) does: macOS has no other vfork any more. The verdict lies in shared memory. */
#include "posix/start.h"

#include <errno.h>
#include <fcntl.h>
#include <libproc.h>
#include <sched.h>
#include <signal.h>
#include <sys/event.h>
#include <sys/mman.h>
#include <unistd.h>

const int pj_signal_end = NSIG;

bool pj_start_separate(const pj_spec *spec) {
    (void)spec;
    return true;
}

/* Until the child has executed or ended. It does nothing before the gate is open. */
static void watch(int queue, volatile int *gate, pid_t pid) {
    struct kevent change, event;
    EV_SET(&change, (uintptr_t)pid, EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXEC | NOTE_EXIT, 0, NULL);
    bool watched = kevent(queue, &change, 1, NULL, 0, NULL) == 0;
    *gate = 1;
    while (watched && kevent(queue, NULL, 0, &event, 1, NULL) < 0 && errno == EINTR) {
    }
}

/* The gate is a word in shared memory: there is no pipe2(), and a pipe would leak into what other threads start. */
static pid_t fork_watched(int queue, volatile int *gate, void (*run)(void *), void *arg) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        while (*gate == 0) {
            if (getppid() != parent) {
                _exit(255);
            }
            sched_yield();
        }
        run(arg);
    }
    if (pid > 0) {
        watch(queue, gate, pid);
    }
    return pid;
}

pid_t pj_start(int cgroup_fd, bool separate, void (*run)(void *), void *arg) {
    (void)separate;
    if (cgroup_fd >= 0) {
        errno = ENOSYS;
        return -1;
    }
    int queue = kqueue(); /* no fork inherits it */
    if (queue < 0) {
        return -1;
    }
    pid_t pid = -1;
    int *gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0);
    if (gate != MAP_FAILED) {
        pid = fork_watched(queue, gate, run, arg);
    }
    int code = errno;
    if (gate != MAP_FAILED) {
        munmap(gate, sizeof *gate);
    }
    close(queue);
    errno = code;
    return pid;
}

static void close_unless(int fd, int first, const int *keep, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (keep[i] == fd) {
            return;
        }
    }
    if (fd >= first) {
        close(fd);
    }
}

void pj_child_close(int first, const int *keep, size_t count) {
    struct proc_fdinfo open[1024];
    int size = proc_pidinfo(getpid(), PROC_PIDLISTFDS, 0, open, sizeof open);
    if (size > 0 && size < (int)sizeof open) {
        for (int i = 0; i < size / (int)sizeof *open; i++) {
            close_unless(open[i].proc_fd, first, keep, count);
        }
        return;
    }
    for (int fd = first, end = getdtablesize(); fd < end; fd++) {
        close_unless(fd, first, keep, count);
    }
}
