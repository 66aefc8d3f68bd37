/* PID and pidfd as one value: pj_process of core/process.h, whose open, close, alive and signal are in pidref.c. The
 * guard links it (no libc): only syscall(), poll, close, kill, errno and what procfs.h needs.
 *
 * Below kernel 5.3, or under a seccomp filter that answers ENOSYS or EPERM, handle is -1 and the start time stands in:
 * it is compared before each act. Any other refusal (EMFILE, ENFILE, ENOMEM) is an error, never a silent downgrade. */
#ifndef PJ_LINUX_PIDREF_H
#define PJ_LINUX_PIDREF_H

#include "core/process.h"

/* A pidfd (close-on-exec); -1 with *err untouched: the kernel has none for us; -2: an error. ESRCH: nobody, or a
 * thread. */
int pj_pidfd_open(pj_pid pid, pj_error *err);

/* For what is kept: descriptors 0 to 2 are the caller's to fill, though they may be closed now. It takes the place of
 * `fd`, which is closed. -1 is passed on; or with errno. */
int pj_above_standard(int fd);

/* struct pidfd_info of linux/pidfd.h: 6.13, and exit_code since 6.15. */
typedef struct {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
} pj_pidfd_info;

enum { PJ_INFO_PID = 1 << 0, PJ_INFO_CGROUP = 1 << 2, PJ_INFO_EXIT = 1 << 3 };

/* PIDFD_GET_INFO. false: the kernel has none of it for us. */
bool pj_pidfd_ask(const pj_process *process, unsigned what, pj_pidfd_info *out);

/* Whether pj_pidfd_open() and pidfd_send_signal() work here at all. */
bool pj_pidfd_works(void);

/* 0: it ended; 1: the deadline passed. EINTR is an error. */
int pj_process_await(const pj_process *process, pj_deadline deadline, pj_error *err);

/* The name of the system call that signals it, for errors. */
static inline const char *pj_signal_call(const pj_process *process) {
    return process->handle >= 0 ? "pidfd_send_signal" : "kill";
}

#endif
