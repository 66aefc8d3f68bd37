#include "linux/pidref.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/procfs.h"
#include "linux/raw.h"

static bool is_filtered(int code) {
    return code == ENOSYS || code == EPERM; /* pidfd_open(2) knows no EPERM of its own */
}

int pj_pidfd_open(pj_pid pid, pj_error *err) {
    if (pid < 1 || pid > INT32_MAX) {
        pj_fail(err, EINVAL, "pidfd_open");
        return -2;
    }
    int fd = (int)syscall(PJ_SYS_PIDFD_OPEN, (pid_t)pid, 0u);
    if (fd >= 0) {
        return fd;
    }
    int code = errno;
    if (is_filtered(code)) {
        return -1;
    }
    bool thread = code == EINVAL || code == ENOENT; /* older and newer kernels, of a thread that leads no process */
    pj_fail(err, thread ? ESRCH : code, "pidfd_open");
    return -2;
}

int pj_above_standard(int fd) {
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int code = errno;
    close(fd);
    errno = code;
    return higher;
}

bool pj_pidfd_ask(const pj_process *process, unsigned what, pj_pidfd_info *out) {
    *out = (pj_pidfd_info){.mask = what};
    unsigned long request = _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, sizeof *out); /* PIDFD_GET_INFO */
    return process->handle >= 0 && syscall(SYS_ioctl, (int)process->handle, request, out) == 0 &&
           (out->mask & what) == what;
}

static int send_by_pidfd(int fd, int sig) {
    return (int)syscall(PJ_SYS_PIDFD_SEND_SIGNAL, fd, sig, (void *)0, 0u);
}

bool pj_pidfd_works(void) {
    pj_error err;
    int fd = pj_pidfd_open(getpid(), &err);
    if (fd < 0) {
        return fd == -2; /* EMFILE and the like say nothing against it */
    }
    bool works = send_by_pidfd(fd, 0) == 0;
    close(fd);
    return works;
}

/* Pinned by pidfd: the look at /proc belongs to it if it is not reaped after the look. */
static int complete(pj_process *process, pj_error *err) {
    pj_stat stat;
    int fd = (int)process->handle;
    if (pj_procfs_stat(process->pid, &stat, err) == 0) {
        process->created = stat.start;
        process->kernel = stat.kernel;
    } else if (err->code != EACCES) { /* hidden by hidepid: the pidfd alone is its identity */
        return -1;
    }
    if (fd < 0 || send_by_pidfd(fd, 0) == 0 || errno == EPERM) { /* a zombie still takes signal 0 */
        return 0;
    }
    int code = errno;
    if (code != ENOSYS) {
        return pj_fail(err, code, "pidfd_send_signal");
    }
    close(fd); /* a filter that knows the one call and not the other */
    process->handle = -1;
    return 0;
}

int pj_process_open(pj_pid pid, pj_process *out, pj_error *err) {
    pj_process process = {.pid = pid, .handle = pj_pidfd_open(pid, err)};
    if (process.handle == -2) {
        return -1;
    }
    if (complete(&process, err) < 0) {
        pj_process_close(&process);
        return -1;
    }
    if (process.handle == -1 && process.created == 0) {
        return pj_fail(err, EACCES, "openat(/proc/PID/stat)"); /* neither pidfd nor start time: no identity */
    }
    *out = process;
    return 0;
}

int pj_process_pin(pj_pid pid, pj_process *out, pj_error *err) {
    int fd = pj_pidfd_open(pid, err);
    if (fd == -1) {
        return pj_process_open(pid, out, err);
    }
    if (fd < 0) {
        return -1;
    }
    *out = (pj_process){.pid = pid, .handle = fd};
    return 0;
}

void pj_process_close(pj_process *process) {
    if (process->handle >= 0) {
        close((int)process->handle);
        process->handle = -1;
    }
}

int pj_process_alive(const pj_process *process, bool *alive, pj_error *err) {
    if (process->handle >= 0) {
        struct pollfd ended = {.fd = (int)process->handle,
                               .events = POLLIN}; /* by the last thread's exit, reaped or not */
        int ready;
        do { /* a signal that is pending ends even a poll(2) that does not wait */
            ready = poll(&ended, 1, 0);
        } while (ready < 0 && errno == EINTR);
        if (ready < 0) {
            return pj_fail(err, errno, "poll");
        }
        *alive = ready == 0;
        return 0;
    }
    pj_stat stat;
    if (pj_procfs_stat(process->pid, &stat, err) == 0) {
        *alive = stat.start == process->created && !pj_stat_dead(&stat);
        return 0;
    }
    if (err->code != ESRCH) {
        return -1;
    }
    *alive = false;
    return 0;
}

int pj_process_signal(const pj_process *process, int sig, pj_error *err) {
    bool alive;
    if (pj_process_alive(process, &alive, err) < 0) {
        return -1;
    }
    bool pinned = process->handle >= 0;
    const char *call = pj_signal_call(process);
    if (!alive) {
        return pj_fail(err, ESRCH, call); /* the kernel would take it for a zombie in silence */
    }
    if (process->kernel) {
        return pj_fail(err, EPERM, "pidfd_send_signal: a kernel thread"); /* it would be ignored in silence */
    }
    int status = pinned ? send_by_pidfd((int)process->handle, sig) : kill((pid_t)process->pid, sig);
    return status < 0 ? pj_fail(err, errno, call) : 0;
}

/* Without a pidfd nobody tells us: a look at /proc, less and less often. */
static int await_by_looks(const pj_process *process, pj_deadline deadline, pj_error *err) {
    for (int64_t pause = PJ_MS;; pause = pause < 32 * PJ_MS ? 2 * pause : pause) {
        bool alive;
        if (pj_process_alive(process, &alive, err) < 0) {
            return -1;
        }
        if (!alive) {
            return 0;
        }
        int64_t now = pj_now();
        if (now >= deadline) {
            return 1;
        }
        struct pollfd none = {.fd = -1};
        if (poll(&none, 1, pj_left_ms(pj_earlier(deadline, now + pause), INT32_MAX)) < 0) {
            return pj_fail(err, errno, "poll");
        }
    }
}

int pj_process_await(const pj_process *process, pj_deadline deadline, pj_error *err) {
    if (process->handle < 0) {
        return await_by_looks(process, deadline, err);
    }
    for (;;) {
        struct pollfd ended = {.fd = (int)process->handle, .events = POLLIN};
        int ready = poll(&ended, 1, pj_left_ms(deadline, INT32_MAX));
        if (ready != 0) {
            return ready > 0 ? 0 : pj_fail(err, errno, "poll");
        }
        if (pj_now() >= deadline) {
            return 1;
        }
    }
}
