#define _GNU_SOURCE 1
#include "posix/spawn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/start.h"

typedef struct {
    const pj_spec *spec;
    pj_place place;
    sigset_t mask; /* the caller's */
    pj_verdict *verdict;
} birth;

static void run(void *arg) {
    birth *child = arg;
    pj_child_exec(child->spec, &child->place, &child->mask, child->verdict);
}

static void reap(pid_t pid) {
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* Whether the refusal is one of clone3() or of its flag, so that the older way may do. Sandboxes say ENOSYS or EPERM.
 */
static bool not_known(int code) {
    return code == ENOSYS || code == EPERM || code == EINVAL || code == EOPNOTSUPP || code == E2BIG;
}

static pid_t start(birth *child, int cgroup_fd, bool separate) {
    *child->verdict = (pj_verdict){.parent = getpid()};
    return pj_start(cgroup_fd, separate, run, child);
}

/* 0: it ran its first instruction; 1: the other way is worth a try; -1: an error. */
static int start_inside(birth *child, int cgroup_fd, bool separate, pid_t *pid, pj_error *err) {
    *pid = start(child, cgroup_fd, separate);
    if (*pid < 0) {
        return not_known(errno) ? 1 : pj_fail(err, errno, "clone3");
    }
    if (child->verdict->started) {
        return 0;
    }
    /* Kernel 6.14 and later: where the leaf and the caller's own cgroup were not killed equally often, what is cloned
     * from one into the other dies at birth. A move is not subject to it. */
    reap(*pid);
    return 1;
}

static int start_anyhow(birth *child, bool separate, pj_child *out, pj_error *err) {
    const int leaf = child->place.cgroup_fd;
    pid_t pid;
    if (leaf >= 0) {
        child->place.cgroup_fd = -1;
        int tried = start_inside(child, leaf, separate, &pid, err);
        if (tried < 0) {
            return -1;
        }
        if (tried == 0) {
            *out = (pj_child){.process = {.pid = pid, .handle = -1}, .path = "clone3"};
            return 0;
        }
        child->place.cgroup_fd = leaf;
    }
    pid = start(child, -1, separate);
    if (pid < 0) {
        return pj_fail(err, errno, "vfork");
    }
    *out = (pj_child){.process = {.pid = pid, .handle = -1}, .path = "vfork"};
    return 0;
}

static int block_and_start(birth *child, bool separate, pj_child *out, pj_error *err) {
    sigset_t all;
    memset(&all, 0xff, sizeof all);
    int code = pthread_sigmask(SIG_SETMASK, &all, &child->mask);
    if (code != 0) {
        return pj_fail(err, code, "pthread_sigmask");
    }
    int result = start_anyhow(child, separate, out, err);
    if (result == 0) {
        out->child_errno = child->verdict->code;
        out->stage = out->child_errno != 0 ? pj_stage_name(child->verdict->stage) : "";
        if (out->child_errno != 0) {
            reap((pid_t)out->process.pid);
        }
    }
    pthread_sigmask(SIG_SETMASK, &child->mask, NULL);
    return result;
}

int pj_spawn(const pj_spec *spec, const pj_place *place, pj_child *out, pj_error *err) {
    pj_verdict local, *verdict = &local;
    bool separate = pj_start_separate(spec);
    if (separate) {
        verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0);
        if (verdict == MAP_FAILED) {
            return pj_fail(err, errno, "mmap");
        }
    }
    birth child = {.spec = spec, .place = *place, .verdict = verdict};
    pj_child result;
    int failed = block_and_start(&child, separate, &result, err);
    if (separate) {
        munmap(verdict, sizeof *verdict);
    }
    if (failed == 0) {
        *out = result;
    }
    return failed;
}
