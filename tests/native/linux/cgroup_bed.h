/* What the C tests of the cgroup backend share: a platform, and short names for its operations.
 *
 * Each is run in a control group of its own, with the path of pyjob-guard (tests/native/test_native.py). */
#ifndef PJ_TESTS_CGROUP_BED_H
#define PJ_TESTS_CGROUP_BED_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "linux/cgroup.h"
#include "posix/spawn.h"

static const char *guard_path;
static pj_platform *platform;
static pj_error err;

static inline pj_job *make(pj_job *parent, bool keep, const char *name) {
    pj_job *job;
    pj_create how = {platform, parent, name, keep, guard_path};
    OK(pj_cgroup_backend.create(&how, &job, &err));
    return job;
}

static inline void unmake(pj_job *job) {
    pj_cgroup_backend.close(job);
}

static inline pid_t start(pj_job *job, const char *script) {
    char *const executables[] = {"/bin/sh", NULL};
    char *const argv[] = {"sh", "-c", (char *)script, NULL};
    pj_spec spec = {.executables = executables, .argv = argv, .p2cread = -1, .p2cwrite = -1, .c2pread = -1};
    spec.c2pwrite = spec.errread = spec.errwrite = spec.process_group = spec.umask = -1;
    spec.close_fds = true;
    pj_child child;
    OK(pj_cgroup_backend.spawn(job, &spec, &child, &err));
    CHECK(child.child_errno == 0);
    return (pid_t)child.process.pid;
}

static inline size_t count(pj_job *job) {
    pj_pids pids = {0};
    OK(pj_cgroup_backend.list(job, &pids, &err));
    size_t result = pids.count;
    pj_pids_free(&pids);
    return result;
}

static inline bool has(pj_job *job, pid_t pid) {
    pj_process process;
    bool inside;
    OK(pj_process_open(pid, &process, &err));
    OK(pj_cgroup_backend.contains(job, &process, &inside, &err));
    pj_process_close(&process);
    return inside;
}

static inline void end(pj_job *job) {
    pj_pids left = {0};
    int result = pj_cgroup_backend.kill(job, pj_now() + 5000 * PJ_MS, &left, &err);
    OK(result);
    CHECK(result == 0 && left.count == 0);
}

static inline int reap(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static inline void await_count(pj_job *job, size_t wanted) {
    for (int i = 0; i < 2000 && count(job) != wanted; i++) {
        poll(NULL, 0, 2);
    }
    CHECK(count(job) == wanted);
}

static inline void where(pj_job *job, char *out, size_t room) {
    pj_cgroup_job *mine = (pj_cgroup_job *)job;
    snprintf(out, room, "%s/%s", mine->root->where, mine->path);
}

static inline bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* A child that does nothing. */
static inline pid_t idle(void) {
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    CHECK(pid > 0);
    return pid;
}

static inline int open_descriptors(void) {
    int found = 0;
    for (int fd = 0; fd < 256; fd++) {
        found += fcntl(fd, F_GETFD) >= 0;
    }
    return found;
}

/* Twice, so that what is left open shows. */
static inline int run_twice(int argc, char **argv, void (*all)(void)) {
    CHECK(argc == 2);
    guard_path = argv[1];
    platform = pj_platform_new();
    all();
    int before = open_descriptors();
    all();
    CHECK(open_descriptors() == before);
    pj_platform_free(platform);
    return 0;
}

#endif
