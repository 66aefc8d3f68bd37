/* The backend process-group with real processes. Prints one line per check; exit status 1 if any failed. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/group.h"
#include "posix/spec.h"

static const pj_backend *const backend = &pj_group_backend;

static bool check(bool good, const char *what) {
    printf("%s %s\n", good ? "ok  " : "FAIL", what);
    fflush(stdout);
    return good;
}

static pj_job *make(pj_job *parent) {
    pj_create how = {.parent = parent};
    pj_error err;
    pj_job *job = NULL;
    if (backend->create(&how, &job, &err) < 0) {
        printf("create: %s %d\n", err.call, err.code);
        exit(2);
    }
    return job;
}

/* Runs a script that reports on descriptor 1 when it is ready; waits for one line. */
static pj_pid start(pj_job *job, const char *script, bool session, int group) {
    char *paths[] = {"/bin/sh", NULL}, *argv[] = {"sh", "-c", (char *)script, NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        exit(2);
    }
    pj_spec spec = {.executables = paths,
                    .argv = argv,
                    .p2cread = -1,
                    .p2cwrite = -1,
                    .c2pread = ends[0],
                    .c2pwrite = ends[1],
                    .errread = -1,
                    .errwrite = -1,
                    .close_fds = true,
                    .start_new_session = session,
                    .process_group = group,
                    .umask = -1};
    pj_child child;
    pj_error err;
    if (backend->spawn(job, &spec, &child, &err) < 0 || child.child_errno != 0) {
        printf("spawn failed\n");
        exit(2);
    }
    close(ends[1]);
    char line;
    if (read(ends[0], &line, 1) < 0) {
        exit(2);
    }
    close(ends[0]);
    return child.process.pid;
}

static size_t members(pj_job *job) {
    pj_pids list = {0};
    pj_error err;
    if (backend->list(job, &list, &err) < 0) {
        printf("     list: %s %s\n", err.call, strerror(err.code));
        return 999;
    }
    size_t count = list.count;
    pj_pids_free(&list);
    return count;
}

static bool contains(pj_job *job, pj_pid pid) {
    pj_process process;
    pj_error err;
    bool inside = false;
    if (pj_process_open(pid, &process, &err) == 0) {
        if (backend->contains(job, &process, &inside, &err) < 0) {
            printf("     contains: %s %s\n", err.call, strerror(err.code));
        }
        pj_process_close(&process);
    }
    return inside;
}

static int end(pj_job *job) {
    pj_pids survivors = {0};
    pj_error err;
    int result = backend->kill(job, pj_now() + 5000 * PJ_MS, &survivors, &err);
    if (result < 0) {
        printf("     kill: %s %s\n", err.call, strerror(err.code));
    }
    pj_pids_free(&survivors);
    return result;
}

static int collect(pj_job *job, int64_t within) {
    pj_error err;
    int status = -1000;
    int result = backend->collect(job, pj_now() + within, &status, &err);
    return result == 0 ? status : result == 1 ? 1000 : -1000 - err.code;
}

static bool none_left(void) {
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static const char family[] =
    "sleep 100 & sleep 100 & (sleep 100 & sleep 100) & while [ $(pgrep -g 0 -c sleep) -lt 4 ]; "
    "do :; done; echo; wait";

static bool test_tree(void) {
    pj_job *job = make(NULL);
    pj_pid pid = start(job, family, false, -1);
    bool good = check(members(job) == 5, "sees all members");
    good &= check(contains(job, pid) && !contains(job, getpid()) && !contains(job, 1), "knows who is in");
    good &= check(collect(job, 0) == 1000, "the program is not collected while it runs");
    good &= check(end(job) == 0 && members(job) == 0, "kills all");
    good &= check(kill((pid_t)pid, 0) == 0, "the program's pid is kept until it is collected");
    good &= check(collect(job, 0) == -9 && collect(job, 0) == -9, "collects, again and again");
    backend->close(job);
    return good & check(none_left(), "no zombie left");
}

static bool test_leader_gone(void) {
    pj_job *job = make(NULL);
    pj_pid pid = start(job, "sleep 100 >/dev/null & echo; exit 4", false, -1);
    bool good = check(collect(job, 5000 * PJ_MS) == 4, "the leader's exit status");
    good &= check(members(job) == 1 && !contains(job, pid), "the member lives on");
    pj_error err;
    good &= check(backend->wait(job, pj_now(), &err) == 1, "wait: somebody lives");
    good &= check(end(job) == 0 && members(job) == 0, "kills who outlived the leader");
    good &= check(backend->wait(job, pj_now(), &err) == 0, "wait: nobody lives");
    backend->close(job);
    return good & check(none_left(), "no zombie left");
}

/* Somebody else's wait() took the leader: where the group is known by a handle it is still ours; else it is left alone.
 */
static bool test_reaped_by_another(void) {
    pj_job *job = make(NULL);
    pj_pid pid = start(job, "sleep 100 >/dev/null & echo; exit 4", false, -1);
    waitpid((pid_t)pid, NULL, 0);
    size_t count = members(job);
    bool good = check(count == 1 || count == 999, "a leader reaped by another: seen, or refused");
    printf("     %zu\n", count);
    good &= check(collect(job, 0) == -1000 - ECHILD, "its status is unknown");
    good &= check(end(job) == (count == 1 ? 0 : -1), "killed, or refused");
    killpg((pid_t)pid, SIGKILL);
    backend->close(job);
    return good & check(none_left(), "no zombie left");
}

static bool test_nested(void) {
    pj_job *outer = make(NULL), *inner = make(outer), *other = make(outer);
    start(inner, "sleep 100 & echo; wait", false, -1);
    pj_pid second = start(other, "sleep 100 & echo; wait", true, -1);
    pj_pid third = start(outer, "echo; exec sleep 100", false, 0);
    bool good =
        check(members(outer) == 5 && members(inner) == 2 && members(other) == 2, "a job holds the jobs inside it");
    good &= check(getsid((pid_t)second) == (pid_t)second && getpgid((pid_t)third) == (pid_t)third,
                  "session and group as asked");
    good &= check(end(inner) == 0 && members(outer) == 3, "a sibling lives on");
    good &= check(end(outer) == 0 && members(outer) == 0, "the outer one ends all");
    good &= check(collect(inner, 0) == -9 && collect(other, 0) == -9 && collect(outer, 0) == -9, "each is collected");
    backend->close(inner);
    backend->close(other);
    backend->close(outer);
    return good & check(none_left(), "no zombie left");
}

/* The job around goes first, or the one in the middle. */
static bool test_closing_order(void) {
    pj_job *outer = make(NULL), *middle = make(outer), *inner = make(middle);
    pj_pid pid = start(inner, "echo; exec sleep 100", false, -1);
    backend->close(middle);
    bool good = check(contains(outer, pid) && members(inner) == 1, "the middle one is closed");
    backend->close(outer);
    good &= check(members(inner) == 1 && end(inner) == 0 && collect(inner, 0) == -9, "the outer one is closed");
    backend->close(inner);
    return good & check(none_left(), "no zombie left");
}

static bool test_signal(void) {
    pj_job *job = make(NULL);
    start(job, "trap 'exit 5' TERM; sleep 100 & until pgrep -g 0 sleep; do :; done; wait", false, -1);
    pj_error err;
    bool good = check(backend->signal(job, SIGTERM, &err) == 0, "signals the group");
    good &= check(collect(job, 5000 * PJ_MS) == 5, "the program heard it");
    int left = backend->wait(job, pj_now() + 5000 * PJ_MS, &err);
    if (left < 0) {
        printf("     wait: %s %s\n", err.call, strerror(err.code));
    }
    good &= check(left == 0, "and so did the others");
    backend->close(job);
    return good & check(none_left(), "no zombie left");
}

/* Into a group that is not ours: only the program itself is a member, and the job says so. */
static bool test_foreign_group(void) {
    pj_job *job = make(NULL), *host = make(NULL);
    pj_pid lead = start(host, "echo; exec sleep 100", false, -1);
    pj_pid pid = start(job, "sleep 100 & echo; wait", false, (int)lead);
    bool good = check(members(job) == 1 && contains(job, pid) && !contains(job, lead), "alone in somebody's group");
    good &= check(job->denied & PJ_INHERITED, "which is said");
    good &= check(end(job) == 0 && collect(job, 0) == -9 && members(host) == 2, "nobody else is killed");
    end(host);
    collect(host, 0);
    backend->close(job);
    backend->close(host);
    return good & check(none_left(), "no zombie left");
}

static bool test_caller_inside(void) {
    pid_t child = fork();
    if (child == 0) {
        pj_job *job = make(NULL);
        pj_pid pid = start(job, "sleep 100 & echo; wait", false, -1);
        bool good = setpgid(0, (pid_t)pid) == 0 && contains(job, getpid()) && members(job) == 3;
        good = end(job) == 0 && good && members(job) == 1 && collect(job, 0) == -9;
        backend->close(job);
        _exit(good ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    return check(status == 0, "spares the caller, which moved in");
}

/* As subprocess does with preexec_fn: forks by itself, and the child joins. */
static bool test_join(void) {
    pj_job *job = make(NULL);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        exit(2);
    }
    pid_t child = fork();
    if (child == 0) {
        pj_error err;
        if (backend->join(job, &err) < 0) {
            _exit(99);
        }
        dup2(ends[1], 1);
        execl("/bin/sh", "sh", "-c", "sleep 100 & echo; wait", (char *)NULL);
        _exit(98);
    }
    close(ends[1]);
    char line;
    bool good = read(ends[0], &line, 1) == 1;
    close(ends[0]);
    good &= check(members(job) == 2 && contains(job, child), "joined from a fork");
    good &= check(end(job) == 0 && collect(job, 0) == -9, "killed and collected");
    backend->close(job);
    return good & check(none_left(), "no zombie left");
}

/* Children are reaped by the kernel, at once: nobody knows the status. */
static bool test_sigchld_ignored(void) {
    signal(SIGCHLD, SIG_IGN);
    bool good = true;
    for (int i = 0; i < 20 && good; i++) {
        pj_job *job = make(NULL);
        start(job, "exit 3", false, -1);
        int status = collect(job, 5000 * PJ_MS);
        good = (status == 3 || status == -1000 - ECHILD) && members(job) == 0 && end(job) == 0;
        backend->close(job);
    }
    signal(SIGCHLD, SIG_DFL);
    return check(good, "SIGCHLD ignored");
}

static bool test_no_descriptors(void) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
        pj_job *job = make(NULL);
        char *paths[] = {"/bin/sleep", NULL}, *argv[] = {"sleep", "100", NULL};
        pj_spec spec = {.executables = paths,
                        .argv = argv,
                        .p2cread = -1,
                        .p2cwrite = -1,
                        .c2pread = -1,
                        .c2pwrite = -1,
                        .errread = -1,
                        .errwrite = -1,
                        .process_group = -1,
                        .umask = -1};
        pj_child out;
        pj_error err = {0};
        setrlimit(RLIMIT_NOFILE, &limit);
        bool good = backend->spawn(job, &spec, &out, &err) == -1 && err.code == EMFILE && none_left();
        backend->close(job);
        _exit(good ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    return check(status == 0, "out of descriptors: nothing is left running");
}

/* pidfd_send_signal() as before kernel 5.1: proofs then rest on leaders that are not reaped. */
static void without_handles(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 424, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        exit(2);
    }
}

static bool test_all(void) {
    return test_tree() & test_leader_gone() & test_reaped_by_another() & test_nested() & test_closing_order() &
           test_signal() & test_foreign_group() & test_caller_inside() & test_join() & test_sigchld_ignored() &
           test_no_descriptors();
}

int main(void) {
    bool good = test_all();
    puts("without handles");
    without_handles();
    return good & test_all() ? 0 : 1;
}
