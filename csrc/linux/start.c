#define _GNU_SOURCE 1
#include "posix/start.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/raw.h"

#define INTO_CGROUP 0x200000000ULL

/* struct clone_args of clone3(2) up to `cgroup`, kernel 5.7 */
typedef struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
} clone_args;

const int pj_signal_end = NSIG;

/* A changed uid or gid makes the process's memory undumpable (commit_creds() in the kernel): were it shared, the caller
 * would dump no core and lose its own /proc files; and the new user could reach into it. */
bool pj_start_separate(const pj_spec *spec) {
    return spec->set_uid || spec->set_gid || spec->set_groups;
}

/* One system call that makes a child, and run(arg) in that child. Without a stack of its own the child goes on where
 * the caller is: CLONE_VFORK holds the caller back meanwhile, so the memory below the caller's frame is free. */
#if defined(__x86_64__) && defined(__LP64__)

static long clone_run(long number, long first, long second, void (*run)(void *), void *arg) {
    register long third __asm__("rdx") = 0;
    register long fourth __asm__("r10") = 0;
    register long fifth __asm__("r8") = 0;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "sub $256, %%rsp\n\t" /* past the red zone of the caller */
                     "and $-16, %%rsp\n\t"
                     "mov %[arg], %%rdi\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%[run]\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "r"(third), "r"(fourth),
                       "r"(fifth), [run] "b"(run), [arg] "r"(arg)
                     : "rcx", "r11", "cc", "memory");
    return result;
}

#elif defined(__aarch64__)

static long clone_run(long number, long first, long second, void (*run)(void *), void *arg) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = first;
    register long x1 __asm__("x1") = second;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, %[arg]\n\t"
                     "mov x29, xzr\n\t"
                     "blr %[run]\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [run] "r"(run), [arg] "r"(arg)
                     : "cc", "memory");
    return x0;
}

#else

/* vfork() has no leaf to be born in, and no memory of its own to give. */
static long clone_run(long number, long first, long second, void (*run)(void *), void *arg) {
    (void)second;
    if (number == PJ_SYS_CLONE3) {
        return -ENOSYS;
    }
    pid_t pid = first & CLONE_VM ? vfork() : (pid_t)syscall(number, first, 0, 0, 0, 0);
    if (pid == 0) {
        run(arg);
    }
    return pid < 0 ? -errno : pid;
}

#endif

/* The frames that the child left below ours were never returned from: tell the sanitizer, as its vfork() does. */
#ifdef __SANITIZE_ADDRESS__
void __asan_handle_vfork(void *stack);
#define FORGET_CHILD_FRAMES() __asan_handle_vfork(__builtin_frame_address(0))
#else
#define FORGET_CHILD_FRAMES() ((void)0)
#endif

pid_t pj_start(int cgroup_fd, bool separate, void (*run)(void *), void *arg) {
    long flags = CLONE_VFORK | (separate ? 0 : CLONE_VM);
    long result;
    if (cgroup_fd < 0) {
        result = clone_run(SYS_clone, flags | SIGCHLD, 0, run, arg);
    } else {
        clone_args args = {
            .flags = (uint64_t)flags | INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup_fd};
        result = clone_run(PJ_SYS_CLONE3, (long)&args, sizeof args, run, arg);
    }
    FORGET_CHILD_FRAMES();
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return (pid_t)result;
}

/* Bare system calls: the functions of glibc and musl change all threads, and would find the parent's. */
#ifdef SYS_setgroups32
enum { SETGROUPS = SYS_setgroups32, SETREGID = SYS_setregid32, SETREUID = SYS_setreuid32 };
#else
enum { SETGROUPS = SYS_setgroups, SETREGID = SYS_setregid, SETREUID = SYS_setreuid };
#endif

int pj_child_setgroups(size_t count, const gid_t *groups) {
    return (int)syscall(SETGROUPS, count, groups);
}

int pj_child_setgid(gid_t gid) {
    return (int)syscall(SETREGID, gid, gid);
}

int pj_child_setuid(uid_t uid) {
    return (int)syscall(SETREUID, uid, uid);
}

int pj_child_parent_death(int sig, pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0) < 0) {
        return -1;
    }
    if (getppid() != parent) { /* it died before the prctl(), which then tells us nothing */
        errno = ESRCH;
        return -1;
    }
    return 0;
}

static void close_unless(int fd, const int *keep, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (keep[i] == fd) {
            return;
        }
    }
    close(fd);
}

/* -1: some kernel or sandbox without it. */
static int close_ranges(int first, const int *keep, size_t count) {
    unsigned from = (unsigned)first;
    for (size_t i = 0; i < count; i++) {
        unsigned fd = (unsigned)keep[i];
        if (fd < from) {
            continue;
        }
        if (fd > from && syscall(PJ_SYS_CLOSE_RANGE, from, fd - 1, 0) < 0) {
            return -1;
        }
        from = fd + 1;
    }
    return syscall(PJ_SYS_CLOSE_RANGE, from, ~0U, 0) < 0 ? -1 : 0;
}

static int number_of(const char *name) {
    int number = 0;
    for (; *name >= '0' && *name <= '9'; name++) {
        number = number * 10 + (*name - '0');
    }
    return *name == '\0' ? number : -1; /* "." and ".." */
}

/* proc_pid_fd(5), read with getdents64(2): opendir() allocates. The position in it is the number of a descriptor. */
static int close_listed(int first, const int *keep, size_t count) {
    struct entry {
        uint64_t inode;
        int64_t next;
        uint16_t size;
        uint8_t type;
        char name[];
    };
    _Alignas(struct entry) char buffer[1024];
    int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return -1;
    }
    long size;
    while ((size = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < size;) {
            const struct entry *entry = (const struct entry *)(buffer + at);
            int fd = number_of(entry->name);
            if (fd >= first && fd != dir) {
                close_unless(fd, keep, count);
            }
            at += entry->size;
        }
    }
    close(dir);
    return size < 0 ? -1 : 0;
}

/* At once, and not at the exec: execve(2) lets the suspended parent go before it closes anything. */
void pj_child_close(int first, const int *keep, size_t count) {
    if (close_ranges(first, keep, count) == 0 || close_listed(first, keep, count) == 0) {
        return;
    }
    struct rlimit limit = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &limit);
    for (rlim_t fd = (rlim_t)first; fd < limit.rlim_cur && fd < INT32_MAX; fd++) {
        close_unless((int)fd, keep, count);
    }
}
