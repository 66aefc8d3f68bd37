/* The program, as a child of the guard: the same child.c as everywhere, so that it notices no difference. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard/guard.h"
#include "posix/spawn.h"
#include "posix/start.h"

typedef struct {
    pj_spec spec;
    pj_place place;
    sigset_t mask;
    bool deaf; /* the caller ignores SIGCHLD, and so does its program */
    pj_verdict *verdict;
} birth;

/* In the child. child.c states what may be done here. */
static void run(void *arg) {
    birth *child = arg;
    if (child->deaf) {
        const struct sigaction ignore = {.sa_handler = SIG_IGN};
        sigaction(SIGCHLD, &ignore, NULL);
    }
    pj_child_exec(&child->spec, &child->place, &child->mask, child->verdict);
}

/* The guard cannot ignore SIGCHLD: its children would be reaped before it could tell their status. */
static bool hear_children(void) {
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    struct sigaction before = {0};
    sigaction(SIGCHLD, &standard, &before);
    return before.sa_handler == SIG_IGN;
}

/* The descriptors had to lose close-on-exec to come here; the program shall find them as the owner had them. */
static void restore_cloexec(const pj_wire *wire) {
    static const int places[] = {0, 3, 5}; /* p2cread, c2pwrite, errwrite */
    for (int i = 0; i < 3; i++) {
        if (wire->flags & (uint32_t)PJ_WIRE_CLOEXEC << i) {
            fcntl(wire->fds[places[i]], F_SETFD, FD_CLOEXEC);
        }
    }
}

static int start(birth *child, bool separate, int socket, pid_t *program) {
    *child->verdict = (pj_verdict){.parent = getpid()};
    pid_t pid = pj_start(-1, separate, run, child);
    if (pid < 0) {
        pj_tell_owner(socket, PJ_REFUSED, errno, PJ_CALL_VFORK, 0);
        return -1;
    }
    if (child->verdict->code != 0) {
        waitpid(pid, NULL, 0);
        pj_tell_owner(socket, PJ_STARTED, pid, child->verdict->code, child->verdict->stage);
        return -1;
    }
    *program = pid;
    return 0;
}

int pj_start_program(const pj_wire *wire, size_t size, const int *own, uint64_t mask, int socket, pid_t *program) {
    birth child = {.deaf = hear_children()};
    void *lists;
    int code = pj_wire_decode(wire, size, &child.spec, &lists);
    if (code != 0) {
        pj_tell_owner(socket, PJ_REFUSED, code, code == ENOMEM ? PJ_CALL_MMAP : PJ_CALL_RECV, 0);
        return -1;
    }
    pj_verdict local;
    bool separate = pj_start_separate(&child.spec);
    child.verdict = &local;
    if (separate) {
        child.verdict = mmap(NULL, sizeof *child.verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (child.verdict == MAP_FAILED) {
            pj_tell_owner(socket, PJ_REFUSED, errno, PJ_CALL_MMAP, 0);
            return -1;
        }
    }
    /* Did the guard die, its tree would be nobody's: the program, at least, goes with it. */
    child.place = (pj_place){.cgroup_fd = -1,
                             .terminal = -1,
                             .parent_death = wire->flags & PJ_WIRE_KEEP ? 0 : SIGKILL,
                             .no_handlers = true,
                             .closed = own};
    memcpy(&child.mask, &mask, sizeof mask);
    restore_cloexec(wire);
    int result = start(&child, separate, socket, program);
    if (result == 0) {
        const int kept[] = {own[0], own[1]};
        pj_close_others(kept, 2); /* before the reply: from then on only the program holds its pipes */
        pj_tell_owner(socket, PJ_STARTED, *program, 0, getpid());
    }
    if (separate) {
        munmap(child.verdict, sizeof *child.verdict);
    }
    free(lists);
    return result;
}
