/* What a handle tells besides life and death; open, close, alive and signal are in pidref.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "linux/pidref.h"
#include "linux/procfs.h"

enum { PIDFS_MAGIC = 0x50494446 }; /* PID_FS_MAGIC of linux/magic.h */

static int returncode(int status) {
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Of one that was reaped: the kernel keeps it with the pidfd. */
static bool ask_pidfd(const pj_process *process, int *status) {
    pj_pidfd_info info;
    if (!pj_pidfd_ask(process, PJ_INFO_EXIT, &info)) {
        return false;
    }
    *status = returncode(info.exit_code);
    return true;
}

enum { PIDFD = 3, FLAGS = WEXITED | WNOHANG | WNOWAIT }; /* idtype_t P_PIDFD of waitid(2): Linux 5.4, glibc 2.36 */

/* By number, and then asked whose that is: who has the start time has had the number all the while. */
static bool ask_wait_by_pid(const pj_process *process, siginfo_t *info) {
    pj_error unused;
    pj_stat stat;
    return waitid(P_PID, (id_t)process->pid, info, FLAGS) == 0 && pj_procfs_stat(process->pid, &stat, &unused) == 0 &&
           stat.start == process->created;
}

/* Of our own child, without reaping it. */
static bool ask_wait(const pj_process *process, int *status) {
    siginfo_t info = {0};
    bool pinned = process->handle >= 0 && waitid((idtype_t)PIDFD, (id_t)process->handle, &info, FLAGS) == 0;
    if ((!pinned && !ask_wait_by_pid(process, &info)) || info.si_pid != process->pid) {
        return false;
    }
    *status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return true;
}

/* Whether the kernel lets us see the exit code of somebody else's zombie: this link asks for the same right (ptrace(2),
 * PTRACE_MODE_READ_FSCREDS) and says so when it is missing, where the code is shown as 0. */
static bool may_see(int proc, pj_pid pid) {
    char path[48], link[64];
    char *at = path + sizeof path;
    static const char tail[] = "/ns/user";
    for (size_t left = sizeof tail; left > 0;) {
        *--at = tail[--left];
    }
    for (; pid > 0; pid /= 10) {
        *--at = (char)('0' + pid % 10);
    }
    return readlinkat(proc, at, link, sizeof link) > 0;
}

/* Of somebody else's zombie. */
static bool ask_proc(const pj_process *process, int *status) {
    pj_error unused;
    pj_stat stat;
    int proc = pj_procfs_open(&unused);
    if (proc < 0) {
        return false;
    }
    bool found = may_see(proc, process->pid) && pj_procfs_stat_at(proc, process->pid, &stat, &unused) == 0 &&
                 stat.start == process->created && pj_stat_dead(&stat) && stat.exit_code >= 0;
    close(proc);
    if (found) {
        *status = returncode(stat.exit_code);
    }
    return found;
}

int pj_process_wait(const pj_process *process, pj_deadline deadline, int *status, bool *known, pj_error *err) {
    int ended = pj_process_await(process, deadline, err);
    if (ended != 0) {
        return ended;
    }
    /* Asked again at the end: it may be reaped between the questions. */
    *known = ask_pidfd(process, status) || ask_wait(process, status) || ask_proc(process, status) ||
             ask_pidfd(process, status);
    return 0;
}

/* Since kernel 6.9 a pidfd has an inode of its own, whose number is given out once; before, all have the same. */
uint64_t pj_process_unique(const pj_process *process) {
    struct statfs kind;
    struct stat inode;
    bool own = process->handle >= 0 && fstatfs((int)process->handle, &kind) == 0 && kind.f_type == PIDFS_MAGIC &&
               fstat((int)process->handle, &inode) == 0;
    return own ? inode.st_ino : 0;
}

static int64_t read_clock(clockid_t clock) {
    struct timespec now = {0};
    clock_gettime(clock, &now); /* cannot fail: the clock exists and the pointer is good */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

pj_pid pj_process_self(void) {
    return getpid();
}

int pj_process_created(const pj_process *process, double *seconds, pj_error *err) {
    if (process->created == 0) {
        return pj_fail(err, EACCES, "openat(/proc/PID/stat)"); /* hidden when it was opened */
    }
    long hertz = sysconf(_SC_CLK_TCK);
    double booted = (double)(read_clock(CLOCK_REALTIME) - read_clock(CLOCK_BOOTTIME)) / 1e9;
    *seconds = booted + (double)process->created / (double)hertz;
    return 0;
}
