/* The guard's C library: what it and the shared core need, as bare system calls. One thread, no locks, no stdio, no
 * locale; a guard is then 20 KiB of memory instead of the 700 of a static glibc.
 *
 * The names, prototypes and structures are those of the system's headers (glibc or musl, x86_64 or aarch64, where
 * struct stat, statfs, timespec, pollfd and siginfo_t are the kernel's own). sigset_t and struct sigaction are not: see
 * below. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "linux/raw.h"

int main(int argc, char **argv);

/* ---- start ---- */

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txorl %ebp, %ebp\n\tmovq %rsp, %rdi\n\tandq $-16, %rsp\n\tcall pj_enter\n\thlt\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x30, xzr\n\tmov x0, sp\n\tbl pj_enter\n\tbrk 1\n");
#endif

char **environ;

_Noreturn __attribute__((used)) void pj_enter(long *stack) {
    char **argv = (char **)(stack + 1);
    environ = argv + *stack + 1;
    _exit(main((int)*stack, argv));
}

/* ---- errno ---- */

int *__errno_location(void) {
    static int value; /* one thread; a child of vfork() shares it, as everywhere */
    return &value;
}

static long checked(long result) {
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

#define CALL6(nr, a, b, c, d, e, f)                                                                                    \
    checked(pj_raw(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)))
#define CALL4(nr, a, b, c, d) CALL6(nr, a, b, c, d, 0, 0)
#define CALL3(nr, a, b, c) CALL6(nr, a, b, c, 0, 0, 0)
#define CALL2(nr, a, b) CALL6(nr, a, b, 0, 0, 0, 0)
#define CALL1(nr, a) CALL6(nr, a, 0, 0, 0, 0, 0)
#define CALL0(nr) CALL6(nr, 0, 0, 0, 0, 0, 0)

long syscall(long number, ...) {
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(args, long);
    }
    va_end(args);
    return CALL6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- memory and strings; the compiler calls the first four by itself, so these must not become calls of themselves
 * ---- */

#define PLAIN __attribute__((optimize("no-tree-loop-distribute-patterns")))
#ifdef __clang__
#undef PLAIN
#define PLAIN __attribute__((no_builtin))
#endif

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    for (size_t i = 0; i < size; i++) {
        ((char *)to)[i] = ((const char *)from)[i];
    }
    return to;
}

PLAIN void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to <= (uintptr_t)from) {
        return memcpy(to, from, size); /* forwards */
    }
    for (size_t i = size; i > 0; i--) {
        ((char *)to)[i - 1] = ((const char *)from)[i - 1];
    }
    return to;
}

PLAIN void *memset(void *to, int byte, size_t size) {
    for (size_t i = 0; i < size; i++) {
        ((char *)to)[i] = (char)byte;
    }
    return to;
}

PLAIN int memcmp(const void *one, const void *other, size_t size) {
    const unsigned char *a = one, *b = other;
    for (size_t i = 0; i < size; i++) {
        if (a[i] != b[i]) {
            return a[i] - b[i];
        }
    }
    return 0;
}

PLAIN size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

void *(memchr)(const void *bytes, int byte, size_t size) {
    for (const unsigned char *at = bytes; size > 0; at++, size--) {
        if (*at == (unsigned char)byte) {
            return (void *)at;
        }
    }
    return NULL;
}

void *(memrchr)(const void *bytes, int byte, size_t size) {
    const unsigned char *first = bytes;
    while (size > 0) {
        if (first[--size] == (unsigned char)byte) {
            return (void *)(first + size);
        }
    }
    return NULL;
}

int strcmp(const char *one, const char *other) {
    for (; *one != '\0' && *one == *other; one++, other++) {
    }
    return (unsigned char)*one - (unsigned char)*other;
}

int strncmp(const char *one, const char *other, size_t size) {
    for (; size > 0 && *one != '\0' && *one == *other; one++, other++, size--) {
    }
    return size == 0 ? 0 : (unsigned char)*one - (unsigned char)*other;
}

char *(strchr)(const char *text, int byte) {
    return (char *)memchr(text, byte, strlen(text) + 1);
}

/* Heap sort: no recursion, no memory, never slower than n log n. */
void qsort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *)) {
    char *base = items;
    for (size_t root = count / 2, end = count; end > 1;) {
        if (root > 0) {
            root--;
        } else {
            end--;
            for (size_t i = 0; i < size; i++) {
                char byte = base[i];
                base[i] = base[end * size + i];
                base[end * size + i] = byte;
            }
        }
        for (size_t parent = root, child; (child = parent * 2 + 1) < end; parent = child) {
            if (child + 1 < end && compare(base + child * size, base + (child + 1) * size) < 0) {
                child++;
            }
            if (compare(base + parent * size, base + child * size) >= 0) {
                break;
            }
            for (size_t i = 0; i < size; i++) {
                char byte = base[parent * size + i];
                base[parent * size + i] = base[child * size + i];
                base[child * size + i] = byte;
            }
        }
    }
}

/* Pages from the kernel for each block, its size before it: a guard allocates a few lists, and only while it works. */
enum { HEAD = 16 };

void *malloc(size_t size) {
    if (size > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    size_t *block = mmap(NULL, size + HEAD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        return NULL;
    }
    *block = size + HEAD;
    return (char *)block + HEAD;
}

void free(void *memory) {
    if (memory != NULL) {
        size_t *block = (size_t *)((char *)memory - HEAD);
        int code = errno;
        munmap(block, *block);
        errno = code;
    }
}

void *realloc(void *memory, size_t size) {
    if (memory == NULL) {
        return malloc(size);
    }
    size_t *block = (size_t *)((char *)memory - HEAD);
    if (size > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    long moved = CALL4(SYS_mremap, block, *block, size + HEAD, MREMAP_MAYMOVE);
    if (moved == -1) {
        return NULL;
    }
    *(size_t *)moved = size + HEAD;
    return (char *)moved + HEAD;
}

void *calloc(size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        errno = ENOMEM;
        return NULL;
    }
    return malloc(count * size); /* fresh pages are zero */
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    return (void *)CALL6(SYS_mmap, at, size, protection, flags, fd, offset);
}

int munmap(void *at, size_t size) {
    return (int)CALL2(SYS_munmap, at, size);
}

/* ---- files ---- */

int open(const char *path, int flags, ...) {
    return (int)CALL4(SYS_openat, AT_FDCWD, path, flags, 0); /* nothing is created here */
}

int openat(int dir, const char *path, int flags, ...) {
    return (int)CALL4(SYS_openat, dir, path, flags, 0);
}

int close(int fd) {
    return (int)CALL1(SYS_close, fd);
}

ssize_t read(int fd, void *to, size_t size) {
    return CALL3(SYS_read, fd, to, size);
}

ssize_t write(int fd, const void *from, size_t size) {
    return CALL3(SYS_write, fd, from, size);
}

off_t lseek(int fd, off_t offset, int whence) {
    return CALL3(SYS_lseek, fd, offset, whence);
}

int fcntl(int fd, int command, ...) {
    va_list args;
    va_start(args, command);
    long argument = va_arg(args, long);
    va_end(args);
    return (int)CALL3(SYS_fcntl, fd, command, argument);
}

int dup2(int from, int to) {
    return from == to ? fcntl(from, F_GETFD) < 0 ? -1 : to : (int)CALL3(SYS_dup3, from, to, 0);
}

int unlinkat(int dir, const char *path, int flags) {
    return (int)CALL3(SYS_unlinkat, dir, path, flags);
}

ssize_t readlinkat(int dir, const char *restrict path, char *restrict to, size_t size) {
    return CALL4(SYS_readlinkat, dir, path, to, size);
}

int fstat(int fd, struct stat *out) {
    return (int)CALL2(SYS_fstat, fd, out);
}

int fstatat(int dir, const char *restrict path, struct stat *restrict out, int flags) {
    return (int)CALL4(SYS_newfstatat, dir, path, out, flags);
}

/* What the headers of glibc before 2.33 make of the two above. */
int __fxstat(int version, int fd, struct stat *out) {
    (void)version;
    return (int)CALL2(SYS_fstat, fd, out);
}

int __fxstatat(int version, int dir, const char *path, struct stat *out, int flags) {
    (void)version;
    return (int)CALL4(SYS_newfstatat, dir, path, out, flags);
}

int fstatfs(int fd, struct statfs *out) {
    return (int)CALL2(SYS_fstatfs, fd, out);
}

int flock(int fd, int operation) {
    return (int)CALL2(SYS_flock, fd, operation);
}

int chdir(const char *path) {
    return (int)CALL1(SYS_chdir, path);
}

mode_t umask(mode_t mask) {
    return (mode_t)CALL1(SYS_umask, mask);
}

int poll(struct pollfd *fds, nfds_t count, int milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    return (int)CALL6(SYS_ppoll, fds, count, milliseconds < 0 ? NULL : &left, NULL, 0, 0);
}

ssize_t send(int fd, const void *from, size_t size, int flags) {
    return CALL6(SYS_sendto, fd, from, size, flags, 0, 0);
}

ssize_t recv(int fd, void *to, size_t size, int flags) {
    return CALL6(SYS_recvfrom, fd, to, size, flags, 0, 0);
}

int tcsetpgrp(int terminal, pid_t group) {
    return (int)CALL3(SYS_ioctl, terminal, TIOCSPGRP, &group);
}

/* ---- processes ---- */

_Noreturn void _exit(int status) {
    for (;;) {
        pj_raw(SYS_exit_group, status, 0, 0, 0, 0, 0);
    }
}

int execve(const char *path, char *const argv[], char *const envp[]) {
    return (int)CALL3(SYS_execve, path, argv, envp);
}

int execv(const char *path, char *const argv[]) {
    return execve(path, argv, environ);
}

pid_t getpid(void) {
    return (pid_t)CALL0(SYS_getpid);
}

pid_t getppid(void) {
    return (pid_t)CALL0(SYS_getppid);
}

uid_t getuid(void) {
    return (uid_t)CALL0(SYS_getuid);
}

uid_t geteuid(void) {
    return (uid_t)CALL0(SYS_geteuid);
}

pid_t setsid(void) {
    return (pid_t)CALL0(SYS_setsid);
}

int setpgid(pid_t pid, pid_t group) {
    return (int)CALL2(SYS_setpgid, pid, group);
}

int kill(pid_t pid, int sig) {
    return (int)CALL2(SYS_kill, pid, sig);
}

int waitid(idtype_t type, id_t id, siginfo_t *out, int options) {
    return (int)CALL6(SYS_waitid, type, id, out, options, NULL, 0);
}

pid_t waitpid(pid_t pid, int *status, int options) {
    return (pid_t)CALL4(SYS_wait4, pid, status, options, NULL);
}

int prctl(int option, ...) {
    long a[4];
    va_list args;
    va_start(args, option);
    for (int i = 0; i < 4; i++) {
        a[i] = va_arg(args, long);
    }
    va_end(args);
    return (int)CALL6(SYS_prctl, option, a[0], a[1], a[2], a[3], 0);
}

/* The two have an enum of their own for the first argument in glibc's headers, an int in musl's. */
#ifdef __GLIBC__
int getrlimit(__rlimit_resource_t resource, struct rlimit *out) {
    return (int)CALL4(SYS_prlimit64, 0, resource, NULL, out);
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    return (int)CALL4(SYS_prlimit64, 0, resource, limit, NULL);
}
#else
int getrlimit(int resource, struct rlimit *out) {
    return (int)CALL4(SYS_prlimit64, 0, resource, NULL, out);
}

int setrlimit(int resource, const struct rlimit *limit) {
    return (int)CALL4(SYS_prlimit64, 0, resource, limit, NULL);
}
#endif

/* ---- signals: the kernel's sets are 8 bytes, those of the headers 128 ---- */

enum { KERNEL_SET = 8 };

int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict before) {
    if (before != NULL) {
        memset(before, 0, sizeof *before);
    }
    return (int)-pj_raw(SYS_rt_sigprocmask, how, (long)set, (long)before, KERNEL_SET, 0, 0);
}

/* Never with a handler: for that, x86_64 would need a way back (SA_RESTORER). */
int sigaction(int sig, const struct sigaction *restrict action, struct sigaction *restrict before) {
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } now = {0}, old = {0};
    now.handler = action != NULL ? action->sa_handler : SIG_DFL;
    if (CALL4(SYS_rt_sigaction, sig, action != NULL ? &now : NULL, &old, KERNEL_SET) < 0) {
        return -1;
    }
    if (before != NULL) {
        memset(before, 0, sizeof *before);
        before->sa_handler = old.handler;
    }
    return 0;
}

int signalfd(int fd, const sigset_t *set, int flags) {
    return (int)CALL4(SYS_signalfd4, fd, set, KERNEL_SET, flags);
}

/* ---- time ---- */

int clock_gettime(clockid_t clock, struct timespec *out) {
    return (int)CALL2(SYS_clock_gettime, clock, out);
}

int nanosleep(const struct timespec *pause, struct timespec *left) {
    return (int)CALL2(SYS_nanosleep, pause, left);
}
