/* Read before a file whose code runs in a child with the caller's memory: a sanitizer's own versions of these would
 * note what the child does (a handler reset, a descriptor closed, an end) as done by the caller. */
#ifndef PJ_TEST_BARE_H
#define PJ_TEST_BARE_H

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int __clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
int __sigaction(int number, const struct sigaction *action, struct sigaction *before);

#define clone __clone
/* Only the call: the structure has the same name. */
#define sigaction(...) __sigaction(__VA_ARGS__)
#define close(fd) syscall(SYS_close, fd)
#define dup2(fd, target) syscall(SYS_dup3, fd, target, 0) /* never the same descriptor */
#define write(fd, data, size) syscall(SYS_write, fd, data, size)
#define _exit(code) _Exit(code)

#endif
