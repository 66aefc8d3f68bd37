/* pyjob-guard: a small process beside the owner of jobs, that outlives it long enough to end what it left behind.
 *
 *   pyjob-guard cgroup OWNER ROOT READY     the guard of an owner's cgroups (linux/cgroup.c)
 *   pyjob-guard reaper OWNER SOCKET MASK    the guard, parent and subreaper of one program's tree (linux/reaper.c)
 *   pyjob-guard adopt OWNER SOCKET CHILD FLAGS    the same, of a child that it has from before its execve()
 * (preexec_fn)
 *
 * OWNER, ROOT, READY and SOCKET are numbers of inherited descriptors; OWNER is a pidfd of the owner that the owner
 * opened by itself, so that it cannot name another process, or, where the kernel has or grants none, its
 * /proc/PID/stat, looked at every 100 ms (for cgroup 20). MASK is the caller's signal mask, which the program gets.
 *
 * The guard begins with every signal blocked (linux/guard.h) and stays so: TERM, INT, HUP, QUIT, TSTP, TTIN, TTOU and
 * the rest never reach it, while each keeps, for the program to inherit, the action that the caller had chosen. Only
 * SIGKILL, SIGSTOP and a fault of its own can stop it.
 *
 * Freestanding: it has no C library (libc.c), so its resident memory is some 20 KiB. setup.py builds it from
 *   csrc/guard/{main,reaper,program,watch,libc}.c csrc/core/pids.c csrc/posix/{clock,child}.c
 *   csrc/linux/{protocol,start,procfs,pidref,tree,hunt,view,tracer,sweep,stage}.c
 * with
 *   cc -std=c11 -D_GNU_SOURCE -U_FORTIFY_SOURCE -Icsrc -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin
 *      -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pie -ffunction-sections -nostdlib -static -no-pie
 *      -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noseparate-code -Wl,-z,noexecstack -s -o pyjob-guard
 * SOURCES -lgcc */
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guard/guard.h"
#include "linux/sweep.h"

enum { USAGE = 64 };

static bool parse_fd(const char *text, int *out) {
    uint64_t number;
    if (!pj_parse_number(text, INT32_MAX, &number)) {
        return false;
    }
    *out = (int)number;
    return true;
}

/* Every signal, those of the C library included, which has its own idea of "all". */
static void block_signals(void) {
    sigset_t all;
    memset(&all, 0xff, sizeof all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static int guard_cgroups(int owner, int root, int ready) {
    const int own[] = {owner, root, ready};
    pj_close_others(own, sizeof own / sizeof *own);
    setsid(); /* so that no signal to the owner's group or session takes the guard with it */
    if (chdir("/") < 0 || pj_sweep_lock(root) < 0 || write(ready, "", 1) != 1) {
        return 1;
    }
    close(ready);
    return pj_owner_wait(owner) < 0 || pj_sweep(root, -1) != 0;
}

int main(int argc, char **argv) {
    int owner, second, ready;
    uint64_t mask, child, flags;
    block_signals();
    if (argc < 5 || argc > 6 || !parse_fd(argv[2], &owner) || !parse_fd(argv[3], &second)) {
        return USAGE;
    }
    if (argc == 6) {
        bool numbers = pj_parse_number(argv[4], INT32_MAX, &child) && pj_parse_number(argv[5], UINT32_MAX, &flags);
        return numbers && strcmp(argv[1], "adopt") == 0 ? pj_guard_child(second, owner, (pid_t)child, (uint32_t)flags)
                                                        : USAGE;
    }
    if (strcmp(argv[1], "cgroup") == 0 && parse_fd(argv[4], &ready)) {
        return guard_cgroups(owner, second, ready);
    }
    if (strcmp(argv[1], "reaper") == 0 && pj_parse_number(argv[4], UINT64_MAX, &mask)) {
        return pj_guard_tree(second, owner, mask);
    }
    return USAGE;
}
