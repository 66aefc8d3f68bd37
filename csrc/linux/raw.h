/* System calls without libc: no errno, no thread-local storage. For the guard, which has no libc, and for a process
 * that shares the memory, and so the errno, of a thread that goes on running (linux/guard.c). Returns -errno. */
#ifndef PJ_LINUX_RAW_H
#define PJ_LINUX_RAW_H

#include <sys/syscall.h>

/* Newer than the headers of the oldest build images (manylinux2014: Linux 3.10); of one number on every CPU. */
enum { PJ_SYS_PIDFD_SEND_SIGNAL = 424, PJ_SYS_PIDFD_OPEN = 434, PJ_SYS_CLONE3 = 435, PJ_SYS_CLOSE_RANGE = 436 };

#if defined(__x86_64__)

static inline long pj_raw(long nr, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(nr)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return nr;
}

/* Unmaps the stack it runs on and ends the process: between the two calls nothing may touch memory. */
_Noreturn static inline void pj_raw_leave(void *stack, unsigned long size) {
    __asm__ volatile("syscall\n\tmovl %[exit], %%eax\n\txorl %%edi, %%edi\n\tsyscall\n\thlt"
                     :
                     : "a"((long)SYS_munmap), "D"(stack), "S"(size), [exit] "i"(SYS_exit_group)
                     : "rcx", "r11", "memory");
    __builtin_unreachable();
}

#elif defined(__aarch64__)

static inline long pj_raw(long nr, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

_Noreturn static inline void pj_raw_leave(void *stack, unsigned long size) {
    register long x8 __asm__("x8") = SYS_munmap;
    register long x0 __asm__("x0") = (long)stack;
    register long x1 __asm__("x1") = (long)size;
    __asm__ volatile("svc 0\n\tmov x8, %[exit]\n\tmov x0, 0\n\tsvc 0\n\tbrk 1"
                     :
                     : "r"(x8), "r"(x0), "r"(x1), [exit] "i"(SYS_exit_group)
                     : "memory");
    __builtin_unreachable();
}

#else
#error "pyjob's guard knows x86_64 and aarch64"
#endif

#endif
