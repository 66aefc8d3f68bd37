/* posix/spawn.c and child.c with real children. With an argument: the directory of an empty cgroup of ours; a leaf
 * below it is made, used and removed. Prints one line per check; exit status 1 if any failed. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/spawn.h"

static char *no_environment[] = {"LC_ALL=C", "PATH=/usr/bin:/bin", NULL};

typedef struct {
    pj_spec spec;
    pj_place place;
    char *argv[4];
    char *paths[4];
    pj_child child;
    pj_error err;
    int result, status;
    char output[8192];
} trial;

static bool check(bool good, const char *what) {
    printf("%s %s\n", good ? "ok  " : "FAIL", what);
    fflush(stdout);
    return good;
}

static void prepare(trial *t, const char *script) {
    *t = (trial){.place = {.cgroup_fd = -1, .terminal = -1}};
    t->argv[0] = "sh";
    t->argv[1] = "-c";
    t->argv[2] = (char *)script;
    t->paths[0] = "/bin/sh";
    t->spec = (pj_spec){.executables = t->paths,
                        .argv = t->argv,
                        .envp = no_environment,
                        .p2cread = -1,
                        .p2cwrite = -1,
                        .c2pread = -1,
                        .c2pwrite = -1,
                        .errread = -1,
                        .errwrite = -1,
                        .close_fds = true,
                        .process_group = -1,
                        .umask = -1};
}

static int wait_status(pj_pid pid) {
    int status = -1;
    while (waitpid((pid_t)pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* Runs it with its standard output in t->output. */
static void go(trial *t) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        abort();
    }
    t->spec.c2pread = ends[0];
    t->spec.c2pwrite = ends[1];
    t->result = pj_spawn(&t->spec, &t->place, &t->child, &t->err);
    close(ends[1]);
    size_t count = 0;
    ssize_t got;
    while (count < sizeof t->output - 1 && (got = read(ends[0], t->output + count, sizeof t->output - 1 - count)) > 0) {
        count += (size_t)got;
    }
    close(ends[0]);
    t->output[count] = '\0';
    t->status = t->result == 0 && t->child.child_errno == 0 ? wait_status(t->child.process.pid) : -1;
}

static bool no_children_left(void) {
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static bool test_runs(void) {
    trial t;
    prepare(&t, "echo $0 $$; exit 7");
    go(&t);
    bool good = t.result == 0 && t.child.child_errno == 0 && WIFEXITED(t.status) && WEXITSTATUS(t.status) == 7;
    char expected[64];
    snprintf(expected, sizeof expected, "sh %lld\n", (long long)t.child.process.pid);
    return check(good && strcmp(t.output, expected) == 0 && strcmp(t.child.path, "vfork") == 0,
                 "runs, and says its pid") &
           check(no_children_left(), "nothing left to reap");
}

static bool test_failures(void) {
    trial t;
    prepare(&t, "");
    t.paths[0] = "/nonexistent/a";
    t.paths[1] = "/etc/passwd/b";
    go(&t);
    bool good = check(t.result == 0 && t.child.child_errno == ENOTDIR && strcmp(t.child.stage, "exec") == 0,
                      "last of not-there");
    prepare(&t, "");
    t.paths[0] = "/nonexistent/a";
    t.paths[1] = "/etc/passwd"; /* EACCES */
    t.paths[2] = "/nonexistent/c";
    go(&t);
    good &= check(t.child.child_errno == EACCES && strcmp(t.child.stage, "exec") == 0,
                  "first real error of the candidates");
    prepare(&t, "echo here");
    t.paths[0] = "/nonexistent/a";
    t.paths[1] = "/etc/passwd";
    t.paths[2] = "/bin/sh";
    go(&t);
    good &= check(t.child.child_errno == 0 && strcmp(t.output, "here\n") == 0, "a later candidate runs");
    prepare(&t, "");
    t.spec.cwd = "/nonexistent";
    go(&t);
    good &= check(t.child.child_errno == ENOENT && strcmp(t.child.stage, "chdir") == 0, "chdir fails");
    prepare(&t, "");
    t.spec.process_group = 1; /* another session's */
    go(&t);
    good &= check(t.child.child_errno == EPERM && strcmp(t.child.stage, "setpgid") == 0, "setpgid fails");
    prepare(&t, "");
    const int closed_one[] = {777};
    t.spec.pass_fds = closed_one;
    t.spec.pass_count = 1;
    go(&t);
    good &= check(t.child.child_errno == EBADF && strcmp(t.child.stage, "fcntl") == 0,
                  "a passed descriptor that is closed");
    return good & check(no_children_left(), "failed children are reaped");
}

static bool test_settings(void) {
    trial t;
    prepare(&t, "pwd; umask; ps -o sid= -p $$ | tr -d ' '; echo $$");
    t.spec.cwd = "/usr";
    t.spec.umask = 0123;
    t.spec.start_new_session = true;
    go(&t);
    char expected[128];
    int pid = (int)t.child.process.pid;
    snprintf(expected, sizeof expected, "/usr\n0123\n%d\n%d\n", pid, pid);
    bool good = check(strcmp(t.output, expected) == 0, "cwd, umask, session");
    prepare(&t, "ps -o pgid= -p $$ | tr -d ' '");
    t.place.new_group = true;
    go(&t);
    snprintf(expected, sizeof expected, "%d\n", (int)t.child.process.pid);
    good &= check(strcmp(t.output, expected) == 0, "a group of its own");
    prepare(&t, "echo $PJ_TEST");
    setenv("PJ_TEST", "inherited", 1);
    t.spec.envp = NULL;
    go(&t);
    return good & check(strcmp(t.output, "inherited\n") == 0, "the caller's environment");
}

static bool test_identity(void) {
    if (geteuid() != 0) {
        puts("skip identity: not root");
        return true;
    }
    trial t;
    const gid_t groups[] = {65533, 65532};
    prepare(&t, "id -u; id -g; id -G");
    t.spec.set_uid = t.spec.set_gid = t.spec.set_groups = true;
    t.spec.uid = t.spec.gid = 65534;
    t.spec.groups = groups;
    t.spec.group_count = 2;
    go(&t);
    bool good = check(strcmp(t.output, "65534\n65534\n65534 65533 65532\n") == 0 ||
                          strcmp(t.output, "65534\n65534\n65534 65532 65533\n") == 0,
                      "uid, gid, groups");
    t.paths[0] = "/nonexistent";
    go(&t);
    good &= check(t.child.child_errno == ENOENT && strcmp(t.child.stage, "exec") == 0, "verdict from separate memory");
    return good & check(prctl(PR_GET_DUMPABLE) == 1, "the caller stays dumpable");
}

static bool test_descriptors(void) {
    trial t;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int a = fcntl(null, F_DUPFD, 10), b = fcntl(null, F_DUPFD, 20), c = fcntl(null, F_DUPFD, 900);
    close(null);
    int passed[] = {b, c};
    prepare(&t, "for f in /proc/$$/fd/*; do echo ${f##*/}; done");
    t.spec.pass_fds = passed;
    t.spec.pass_count = 2;
    go(&t);
    char expected[64];
    snprintf(expected, sizeof expected, "0\n1\n2\n%d\n3\n900\n", b); /* 3: the shell reads the directory */
    bool good = check(strcmp(t.output, expected) == 0, "only what is passed stays open");
    printf("     open: ");
    for (char *c = t.output; *c; c++) {
        putchar(*c == '\n' ? ' ' : *c);
    }
    puts("");
    prepare(&t, "for f in /proc/$$/fd/*; do echo ${f##*/}; done | grep -c .");
    t.spec.close_fds = false;
    go(&t);
    good &= check(atoi(t.output) >= 6, "close_fds=False keeps the inheritable ones");
    close(a);
    close(b);
    close(c);
    return good;
}

/* The pipe's ends are descriptors 0 and 1 and must not overwrite each other: in a process without standard streams. */
static int low_descriptors(void) {
    close(0);
    close(1);
    close(2);
    int out[2], error[2];
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0) { /* 0 1, 2 3 */
        return 10;
    }
    trial t;
    prepare(&t, "echo out; echo error >&2");
    t.spec.c2pread = fcntl(out[0], F_DUPFD_CLOEXEC, 20);
    close(out[0]);
    t.spec.c2pwrite = fcntl(out[1], F_DUPFD_CLOEXEC, 0); /* 0 */
    close(out[1]);
    t.spec.errread = fcntl(error[0], F_DUPFD_CLOEXEC, 20);
    close(error[0]);
    t.spec.errwrite = fcntl(error[1], F_DUPFD_CLOEXEC, 1); /* 1 */
    close(error[1]);
    if (t.spec.c2pwrite != 0 || t.spec.errwrite != 1) {
        return 11;
    }
    if (pj_spawn(&t.spec, &t.place, &t.child, &t.err) != 0 || t.child.child_errno != 0) {
        return 12;
    }
    close(0);
    close(1);
    char text[64] = "", wrong[64] = "";
    bool good = wait_status(t.child.process.pid) == 0 && read(t.spec.c2pread, text, sizeof text) == 4 &&
                read(t.spec.errread, wrong, sizeof wrong) == 6;
    return good && memcmp(text, "out\n", 4) == 0 && memcmp(wrong, "error\n", 6) == 0 ? 0 : 13;
}

static bool test_low_descriptors(void) {
    pid_t pid = fork();
    if (pid == 0) {
        _exit(low_descriptors());
    }
    int status = wait_status(pid);
    printf("     low descriptors: status %x\n", status);
    return check(status == 0, "standard streams closed in the caller");
}

static void handler(int sig) {
    (void)sig;
}

static unsigned long caught(const char *status) {
    const char *line = strstr(status, "SigCgt:");
    return line == NULL ? ~0UL : strtoul(line + 7, NULL, 16);
}

static bool test_signals(void) {
    trial t;
    struct sigaction before[4], ours = {.sa_handler = handler}, ignore = {.sa_handler = SIG_IGN};
    sigset_t mask, old;
    sigaction(SIGUSR1, &ours, &before[0]);
    sigaction(SIGPIPE, &ignore, &before[1]);
    sigaction(SIGUSR2, &ignore, &before[2]);
    sigaction(SIGXFSZ, &ignore, &before[3]);
    sigemptyset(&mask);
    sigaddset(&mask, SIGWINCH);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    prepare(&t, NULL); /* no shell: that changes them itself */
    t.paths[0] = "/bin/cat";
    t.argv[1] = "/proc/self/status";
    t.spec.restore_signals = true;
    go(&t);
    bool good = check(strstr(t.output, "\nSigBlk:\t0000000008000000\nSigIgn:\t0000000000000800\nSigCgt:") != NULL,
                      "mask kept, ignored stay ignored, SIGPIPE and SIGXFSZ restored");
    good &= check(caught(t.output) == 0, "no handler survives");
    t.spec.restore_signals = false;
    go(&t);
    good &= check(strstr(t.output, "\nSigIgn:\t0000000001001800\n") != NULL, "restore_signals=False");
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    good &= check(now.sa_handler == handler, "the caller's handler is untouched");
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, &old, &after);
    good &= check(memcmp(&after, &mask, 8) == 0, "the caller's mask is untouched");
    sigaction(SIGUSR1, &before[0], NULL);
    sigaction(SIGPIPE, &before[1], NULL);
    sigaction(SIGUSR2, &before[2], NULL);
    sigaction(SIGXFSZ, &before[3], NULL);
    return good;
}

static bool test_parent_death(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        abort();
    }
    pid_t pid = fork();
    if (pid == 0) {
        trial t;
        prepare(&t, "sleep 30 >/dev/null; :");
        t.argv[0] = "sleep";
        t.argv[1] = "30";
        t.argv[2] = NULL;
        t.paths[0] = "/bin/sleep";
        t.place.parent_death = SIGKILL;
        t.spec.c2pwrite = ends[1];
        _exit(pj_spawn(&t.spec, &t.place, &t.child, &t.err) == 0 && t.child.child_errno == 0 ? 0 : 1);
    }
    close(ends[1]);
    char byte;
    alarm(5);
    bool good = wait_status(pid) == 0 && read(ends[0], &byte, 1) == 0;
    alarm(0);
    close(ends[0]);
    return check(good, "ends with its parent");
}

/* `call` is answered with `code` from here on, for this process and its children. */
static void refuse(long call, int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        _exit(99);
    }
}

static bool test_close_range_refused(void) {
    pid_t pid = fork();
    if (pid == 0) {
        refuse(436, ENOSYS);
        _exit(test_descriptors() ? 0 : 1);
    }
    return check(wait_status(pid) == 0, "descriptors without close_range()");
}

static int leaf_fd(const char *parent, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", parent, name);
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        perror(path);
        return -1;
    }
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_leaf(const char *parent, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", parent, name);
    for (int i = 0; i < 100 && rmdir(path) < 0 && errno == EBUSY; i++) {
        usleep(10000);
    }
}

static bool started_in(int leaf, const char *name, const char *path) {
    trial t;
    prepare(&t, "grep ^0:: /proc/self/cgroup");
    t.place.cgroup_fd = leaf;
    go(&t);
    char *end = strrchr(t.output, '/');
    char expected[64];
    snprintf(expected, sizeof expected, "/%s\n", name);
    bool good = t.result == 0 && t.child.child_errno == 0 && end != NULL && strcmp(end, expected) == 0;
    if (!good || strcmp(t.child.path, path) != 0) {
        printf("     result %d errno %d stage '%s' path %s: %s\n", t.result, t.child.child_errno, t.child.stage,
               t.child.path, t.output);
    }
    return good && strcmp(t.child.path, path) == 0;
}

static bool test_cgroup(const char *parent) {
    int leaf = leaf_fd(parent, "pj-leaf");
    bool good = check(started_in(leaf, "pj-leaf", "clone3"), "born in a leaf");
    trial t;
    prepare(&t, "");
    t.place.cgroup_fd = leaf;
    t.paths[0] = "/nonexistent";
    go(&t);
    good &= check(t.child.child_errno == ENOENT && strcmp(t.child.path, "clone3") == 0, "exec fails in a leaf");
    for (int code = EPERM; code != 0; code = code == EPERM ? ENOSYS : 0) {
        pid_t pid = fork();
        if (pid == 0) {
            refuse(435, code);
            _exit(started_in(leaf, "pj-leaf", "vfork") ? 0 : 1);
        }
        good &=
            check(wait_status(pid) == 0, code == EPERM ? "clone3 refused with EPERM" : "clone3 refused with ENOSYS");
    }
    int kill = openat(leaf, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (kill >= 0 && write(kill, "1", 1) == 1) {
        pj_place place = {.cgroup_fd = leaf, .terminal = -1};
        prepare(&t, "exit 3");
        t.place = place;
        go(&t);
        printf("     killed leaf: path %s\n", t.child.path);
        good &= check(t.child.child_errno == 0 && WIFEXITED(t.status) && WEXITSTATUS(t.status) == 3,
                      "starts in a killed leaf");
    }
    close(kill);
    int null = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    prepare(&t, "");
    t.place.cgroup_fd = null;
    go(&t);
    printf("     no cgroup: result %d, child errno %d stage '%s', %d %s\n", t.result, t.child.child_errno,
           t.child.stage, t.result < 0 ? t.err.code : 0, t.result < 0 ? t.err.call : "");
    good &= check(t.result < 0 || (t.child.child_errno != 0 && strcmp(t.child.stage, "write cgroup.procs") == 0),
                  "what is no cgroup is refused");
    close(null);
    close(leaf);
    remove_leaf(parent, "pj-leaf");
    return good & check(no_children_left(), "nothing left to reap");
}

int main(int argc, char **argv) {
    bool good = test_runs() & test_failures() & test_settings() & test_identity() & test_descriptors() &
                test_low_descriptors() & test_signals() & test_parent_death() & test_close_range_refused();
    if (argc > 1) {
        good &= test_cgroup(argv[1]);
    }
    return good ? 0 : 1;
}
