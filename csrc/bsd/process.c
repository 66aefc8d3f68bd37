#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/types.h>

#include <sys/event.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bsd/snapshot.h"

int pj_process_open(pj_pid pid, pj_process *out, pj_error *err) {
    pj_entry entry;
    if (pid <= 0 || pid > INT_MAX) {
        return pj_fail(err, ESRCH, "sysctl(kern.proc.pid)");
    }
    if (pj_look(pid, &entry, err) < 0) {
        return -1;
    }
    *out = (pj_process){.pid = pid, .handle = -1, .created = entry.created};
    return 0;
}

int pj_process_pin(pj_pid pid, pj_process *out, pj_error *err) {
    return pj_process_open(pid, out, err);
}

void pj_process_close(pj_process *process) {
    process->handle = -1;
}

int pj_process_alive(const pj_process *process, bool *alive, pj_error *err) {
    pj_entry entry;
    if (pj_look(process->pid, &entry, err) < 0) {
        if (err->code != ESRCH) {
            return -1;
        }
        *alive = false;
        return 0;
    }
    *alive = entry.created == process->created && !entry.zombie;
    return 0;
}

int pj_process_signal(const pj_process *process, int sig, pj_error *err) {
    bool alive;
    if (pj_process_alive(process, &alive, err) < 0) {
        return -1;
    }
    if (!alive) {
        return pj_fail(err, ESRCH, "kill");
    }
    return kill((pid_t)process->pid, sig) < 0 ? pj_fail(err, errno, "kill") : 0;
}

/* Of our own child, without reaping it. By number, and then asked whose that is: who was created then has had the
 * number all the while. */
static bool ask_wait(const pj_process *process, int *status) {
    siginfo_t info = {0};
    pj_entry entry;
    pj_error unused;
    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != process->pid ||
        pj_look(process->pid, &entry, &unused) < 0 || entry.created != process->created) {
        return false;
    }
    *status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return true;
}

/* kqueue(2): 0: the PID's holder exited, or had exited; 1: the deadline passed. */
static int await_exit(int queue, const pj_process *process, pj_deadline deadline, pj_error *err) {
    struct kevent change, event;
    bool alive;
    EV_SET(&change, (uintptr_t)process->pid, EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT, 0, NULL);
    if (kevent(queue, &change, 1, NULL, 0, NULL) < 0) {
        return errno == ESRCH ? 0 : pj_fail(err, errno, "kevent");
    }
    if (pj_process_alive(process, &alive, err) < 0) { /* after the watch was set up: it watches the right one */
        return -1;
    }
    if (!alive) {
        return 0;
    }
    int left = pj_left_ms(deadline, 60 * 1000);
    struct timespec timeout = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000L};
    int count = kevent(queue, NULL, 0, &event, 1, &timeout);
    return count < 0 ? pj_fail(err, errno, "kevent") : count == 0;
}

static int await(int queue, const pj_process *process, pj_deadline deadline, pj_error *err) {
    for (;;) {
        bool alive;
        int status = await_exit(queue, process, deadline, err);
        if (status < 0 || pj_process_alive(process, &alive, err) < 0) {
            return -1;
        }
        if (!alive) {
            return 0;
        }
        if (pj_now() >= deadline) {
            return 1;
        }
        if (status == 0) {
            pj_sleep(PJ_MS); /* the event comes a little before the zombie */
        }
    }
}

int pj_process_wait(const pj_process *process, pj_deadline deadline, int *status, bool *known, pj_error *err) {
    int queue = kqueue();
    if (queue < 0) {
        return pj_fail(err, errno, "kqueue");
    }
    fcntl(queue, F_SETFD, FD_CLOEXEC); /* no fork inherits it */
    int result = await(queue, process, deadline, err);
    close(queue);
    if (result == 0) {
        *known = ask_wait(process, status);
    }
    return result;
}

uint64_t pj_process_unique(const pj_process *process) {
    (void)process;
    return 0;
}

pj_pid pj_process_self(void) {
    return getpid();
}

int pj_process_created(const pj_process *process, double *seconds, pj_error *err) {
    (void)err;
    *seconds = (double)(pj_kinfo_epoch() + (int64_t)process->created) / 1e6;
    return 0;
}
