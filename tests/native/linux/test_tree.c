/* csrc/linux/{tree,hunt,view,pidref,process}.c with real trees: wide, deep, moving, stopped, and short of descriptors.
 *
 *   cc -std=c11 -D_GNU_SOURCE -g -fsanitize=address,undefined -Icsrc -Itests/native/linux
 * tests/native/linux/test_tree.c csrc/linux/{tree,hunt,view,pidref,procfs,process}.c csrc/posix/clock.c
 * csrc/core/pids.c */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "linux/pidref.h"
#include "linux/procfs.h"
#include "linux/tree.h"
#include "linux/view.h"

enum { FUSE = 60 }; /* seconds: whatever a broken test leaves behind ends by itself */

static int ready[2]; /* every member writes a byte when it stands */

static void report(void) {
    CHECK(write(ready[1], "", 1) == 1);
}

static void await_reports(int count) {
    char byte;
    while (count-- > 0) {
        CHECK(read(ready[0], &byte, 1) == 1);
    }
}

static _Noreturn void stay(void) {
    alarm(FUSE);
    report();
    for (;;) {
        pause();
    }
}

static _Noreturn void wide(int count) {
    for (int at = 0; at < count; at++) {
        if (fork() == 0) {
            stay();
        }
    }
    stay();
}

static _Noreturn void deep(int count) {
    while (count-- > 0 && fork() == 0) {
    }
    stay();
}

/* Forks, changes its session and exits, without pause: each life is some 100 microseconds long. */
static _Noreturn void hop(volatile int *hops) {
    for (int at = 0; at < 100000; at++) {
        if (fork() != 0) {
            _exit(0);
        }
        setsid();
        __atomic_add_fetch(hops, 1, __ATOMIC_RELAXED);
    }
    _exit(0);
}

static volatile int *hops;

static _Noreturn void storm(int count) {
    for (int at = 0; at < count; at++) {
        if (fork() == 0) {
            hop(hops);
        }
    }
    stay();
}

static _Noreturn void bomb(int count) { /* each new one forks on, all stay */
    alarm(FUSE);
    report();
    for (int at = 0; at < count; at++) {
        usleep(500);
        if (fork() == 0) {
            setsid();
            alarm(FUSE);
        }
    }
    for (;;) {
        pause();
    }
}

static pj_process root;
static pj_forest forest = {.roots = &root, .root_count = 1};

/* A subreaper that reaps all at once, as the guard does; below it `body(count)`. Waits for `reports`. */
static void plant(void (*body)(int), int count, int reports) {
    pj_error err;
    pid_t guard = fork();
    CHECK(guard >= 0);
    if (guard == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        signal(SIGCHLD, SIG_IGN);
        if (fork() == 0) {
            signal(SIGCHLD, SIG_DFL);
            body(count);
        }
        stay();
    }
    await_reports(reports + 1);
    OK(pj_process_open(guard, &root, &err));
}

static void uproot(void) {
    kill((pid_t)root.pid, SIGKILL);
    CHECK(waitpid((pid_t)root.pid, NULL, 0) == root.pid);
    pj_process_close(&root);
}

static size_t count_members(void) {
    pj_error err;
    pj_pids pids = {0};
    OK(pj_forest_list(&forest, &pids, &err));
    size_t count = pids.count;
    pj_pids_free(&pids);
    return count;
}

static void kill_forest(size_t least) {
    pj_error err;
    pj_pids killed = {0}, survivors = {0};
    int64_t begun = pj_now();
    int status = pj_forest_kill(&forest, begun + 30000 * PJ_MS, &killed, &survivors, &err);
    OK(status);
    fprintf(stderr, "  %zu killed in %lld us\n", killed.count, (long long)(pj_now() - begun) / 1000);
    CHECK(status == 0 && survivors.count == 0 && killed.count >= least);
    CHECK(count_members() == 0);
    bool alive;
    OK(pj_process_alive(&root, &alive, &err));
    CHECK(alive);
    pj_pids_free(&killed);
    pj_pids_free(&survivors);
}

static void lists_and_kills_wide(void) {
    plant(wide, 1000, 1001);
    for (int at = 0; at < 3; at++) {
        int64_t begun = pj_now();
        CHECK(count_members() == 1001);
        fprintf(stderr, "  listed in %lld us\n", (long long)(pj_now() - begun) / 1000);
    }
    kill_forest(1001);
    uproot();
}

static void lists_and_kills_deep(void) {
    plant(deep, 150, 151);
    CHECK(count_members() == 151);
    kill_forest(151);
    uproot();
}

static void ends_a_fork_storm(void) {
    for (int at = 0; at < 5; at++) {
        *hops = 0;
        plant(storm, 16, 1);
        while (*hops < 1000) {
            usleep(1000);
        }
        kill_forest(2);
        int after = *hops;
        usleep(20000);
        CHECK(*hops == after);
        uproot();
    }
}

static void ends_a_growing_tree(void) {
    plant(bomb, 9, 1);
    usleep(4000);
    kill_forest(1);
    uproot();
}

static void few_descriptors(void) {
    struct rlimit before, few;
    plant(wide, 200, 201);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    few.rlim_cur = 20;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    kill_forest(201);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    uproot();
}

static void full_table_of_descriptors(void) { /* the limit is high, yet hardly anything is free */
    struct rlimit before, few;
    int fillers[256], count = 0;
    plant(wide, 60, 61);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    few.rlim_cur = 200;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while ((fillers[count] = open("/dev/null", O_RDONLY)) >= 0) {
        count++;
    }
    for (int at = 0; at < 12; at++) {
        close(fillers[--count]);
    }
    kill_forest(61);
    while (count > 0) {
        close(fillers[--count]);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    uproot();
}

static char state_of(pj_pid pid) {
    pj_error err;
    pj_stat stat;
    OK(pj_procfs_stat(pid, &stat, &err));
    return stat.state;
}

static void an_error_leaves_nobody_stopped(void) {
    struct rlimit before, few;
    pj_error err;
    pj_pids members = {0}, killed = {0}, survivors = {0};
    plant(wide, 30, 31);
    OK(pj_forest_list(&forest, &members, &err));
    pj_pid stopped = members.items[5];
    kill((pid_t)stopped, SIGSTOP);
    while (state_of(stopped) != 'T') {
        usleep(1000);
    }
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    int lowest = open("/dev/null", O_RDONLY);
    close(lowest);
    for (int free = 0; free < 4; free++) { /* /proc, its scan, a file in it, a pidfd: one of them is refused */
        few = before;
        few.rlim_cur = (rlim_t)(lowest + free);
        CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
        int status = pj_forest_kill(&forest, pj_now() + 1000 * PJ_MS, &killed, &survivors, &err);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        if (status == 0) { /* three are enough, one after the other */
            CHECK(free == 3 && count_members() == 0 && killed.count == 31);
            break;
        }
        CHECK(status == -1 && err.code == EMFILE && killed.count == 0 && survivors.count == 0);
        usleep(20000);
        for (size_t at = 0; at < members.count; at++) {
            CHECK((state_of(members.items[at]) == 'T') == (members.items[at] == stopped));
        }
    }
    pj_pids_free(&killed);
    kill_forest(0);
    pj_pids_free(&members);
    pj_pids_free(&survivors);
    uproot();
}

static void a_passed_deadline_is_one_attempt(void) {
    pj_error err;
    pj_pids killed = {0}, survivors = {0};
    plant(wide, 20, 21);
    int status = pj_forest_kill(&forest, 0, &killed, &survivors, &err);
    OK(status);
    CHECK(killed.count == 21 && status == (survivors.count > 0));
    pj_pids_free(&killed);
    pj_pids_free(&survivors);
    usleep(200000);
    CHECK(count_members() == 0);
    uproot();
}

static void contains_and_signal(void) {
    pj_error err;
    pj_pids members = {0};
    bool in;
    plant(deep, 10, 11);
    OK(pj_forest_list(&forest, &members, &err));
    for (size_t at = 0; at < members.count; at++) {
        pj_process one;
        OK(pj_process_open(members.items[at], &one, &err));
        OK(pj_forest_contains(&forest, &one, NULL, &in, &err));
        CHECK(in);
        pj_forest spares = {.roots = &root, .root_count = 1, .spared = &one, .spared_count = 1};
        OK(pj_forest_contains(&spares, &one, NULL, &in, &err));
        CHECK(!in);
        pj_pids fewer = {0};
        OK(pj_forest_list(&spares, &fewer, &err));
        CHECK(fewer.count == members.count - 1 && !pj_pids_has(&fewer, one.pid));
        pj_pids_free(&fewer);
        pj_process_close(&one);
    }
    pj_process self;
    OK(pj_process_open(getpid(), &self, &err));
    OK(pj_forest_contains(&forest, &self, NULL, &in, &err));
    CHECK(!in);
    OK(pj_forest_contains(&forest, &root, NULL, &in, &err));
    CHECK(!in);
    pj_process_close(&self);
    OK(pj_forest_signal(&forest, SIGSTOP, &err));
    for (size_t at = 0; at < members.count; at++) {
        while (state_of(members.items[at]) != 'T') {
            usleep(1000);
        }
    }
    CHECK(state_of(root.pid) != 'T');
    pj_process dead;
    OK(pj_process_open(members.items[10], &dead, &err));
    kill_forest(11);
    OK(pj_forest_contains(&forest, &dead, NULL, &in, &err));
    CHECK(!in);
    pj_process_close(&dead);
    pj_pids_free(&members);
    uproot();
}

static size_t line_of(const pj_view *view, pj_pid pid) {
    const pj_stat *line = pj_table_find(&view->table, pid);
    CHECK(line);
    return (size_t)(line - view->table.items);
}

static bool is_shown(const pj_view *view, size_t index) {
    for (size_t at = 0; at < view->count; at++) {
        if (view->order[at] == index) {
            return pj_view_member(view, at) != NULL;
        }
    }
    return false;
}

/* As if `index` had been read when its PID was still that of an earlier child of the root. */
static void make_stale(pj_view *view, size_t index) {
    view->table.items[index].parent = root.pid;
    view->table.items[index].start -= 1000;
}

static void a_parent_that_died_during_the_scan_is_not_believed(void) {
    pj_error err;
    pj_pids members = {0};
    pj_view view;
    pid_t stranger = fork(), child;
    if (stranger == 0) {
        deep(1);
    }
    await_reports(2);
    plant(deep, 2, 3);
    OK(pj_forest_list(&forest, &members, &err));
    pj_pids below = {0};
    OK(pj_children(stranger, false, &below, &err));
    CHECK(below.count == 1 && members.count == 3);
    child = (pid_t)below.items[0];
    OK(pj_view_open(&view, &forest, NULL, &err));
    OK(pj_view_look(&view, &err));
    OK(pj_view_settle(&view, &err));
    for (size_t at = 0; at < 3; at++) {
        CHECK(is_shown(&view, line_of(&view, members.items[at])));
    }
    OK(pj_view_look(&view, &err));
    size_t middle = line_of(&view, members.items[1]), outside = line_of(&view, stranger), other = line_of(&view, child);
    make_stale(&view, middle);
    make_stale(&view, outside);
    view.marks[outside] = view.marks[other] = VIEW_IN;
    view.order[view.count++] = outside;
    view.order[view.count++] = other;
    OK(pj_view_settle(&view, &err));
    CHECK(is_shown(&view, line_of(&view, members.items[0])) && !is_shown(&view, middle));
    CHECK(is_shown(&view, line_of(&view, members.items[2])));
    CHECK(!is_shown(&view, outside) && !is_shown(&view, other));
    pj_view_close(&view);
    pj_pids_free(&members);
    pj_pids_free(&below);
    kill(child, SIGKILL);
    kill(stranger, SIGKILL);
    CHECK(waitpid(stranger, NULL, 0) == stranger);
    kill_forest(3);
    uproot();
}

static void a_walk_learns(void) {
    pj_error err;
    pj_pids members = {0};
    pj_hold known = {0};
    bool in;
    plant(deep, 10, 11);
    usleep(20000); /* the young are not learnt */
    OK(pj_forest_list(&forest, &members, &err));
    for (size_t at = 0; at < members.count; at++) {
        pj_process one;
        OK(pj_process_open(members.items[at], &one, &err));
        OK(pj_forest_contains(&forest, &one, &known, &in, &err));
        CHECK(in && known.count == at + 1 && known.items[at].process.handle == -1);
        pj_process_close(&one);
    }
    kill_forest(11);
    for (size_t at = 0; at < members.count; at++) { /* nobody hangs on the dead */
        OK(pj_hold_knows(&known, members.items[at], &in, &err));
        CHECK(!in);
    }
    pj_hold_free(&known);
    pj_pids_free(&members);
    uproot();
}

static void dead_roots_count_for_nothing(void) {
    pj_error err;
    pj_pids survivors = {0};
    plant(wide, 3, 4);
    kill_forest(4);
    kill((pid_t)root.pid, SIGKILL);
    CHECK(waitpid((pid_t)root.pid, NULL, 0) == root.pid);
    CHECK(count_members() == 0);
    CHECK(pj_forest_kill(&forest, 0, NULL, &survivors, &err) == 0);
    pj_process_close(&root);
}

/* A table of processes as of a kernel without pidfds. */
static void without_pidfds(void) {
    pj_error err;
    bool alive;
    plant(wide, 5, 6);
    pj_process_close(&root); /* handle -1: the start time is its identity */
    CHECK(count_members() == 6);
    OK(pj_process_alive(&root, &alive, &err));
    CHECK(alive);
    pj_process other = root;
    other.created--;
    OK(pj_process_alive(&other, &alive, &err));
    CHECK(!alive);
    CHECK(pj_process_signal(&other, SIGKILL, &err) == -1 && err.code == ESRCH);
    CHECK(pj_process_await(&root, pj_now() + 20 * PJ_MS, &err) == 1);
    kill_forest(6);
    uproot();
}

static void kills_a_tree_and_its_root_last(void) {
    pj_error err;
    pj_pids killed = {0}, survivors = {0};
    plant(deep, 20, 21);
    OK(pj_kill_tree(&root, false, pj_now() + 5000 * PJ_MS, NULL, &killed, &survivors, &err));
    CHECK(killed.count == 21 && survivors.count == 0 && killed.items[20] < killed.items[0]);
    pj_pids_free(&killed);
    OK(pj_kill_tree(&root, true, pj_now() + 5000 * PJ_MS, NULL, &killed, &survivors, &err));
    CHECK(killed.count == 1 && killed.items[0] == root.pid);
    pj_pids_free(&killed);
    CHECK(waitpid((pid_t)root.pid, NULL, 0) == root.pid);
    CHECK(pj_kill_tree(&root, true, pj_now() + 5000 * PJ_MS, NULL, &killed, &survivors, &err) == 0);
    CHECK(killed.count == 0 && survivors.count == 0);
    pj_process_close(&root);
}

/* top -> middle -> caller; top -> sibling -> one below it; caller -> child: killed are the last three, and top. */
static _Noreturn void kill_own_grandparent(int up) {
    pj_error err;
    pj_process top;
    pj_pids killed = {0}, survivors = {0};
    if (fork() == 0) {
        stay();
    }
    await_reports(3);
    OK(pj_process_open(up, &top, &err));
    OK(pj_kill_tree(&top, true, pj_now() + 5000 * PJ_MS, NULL, &killed, &survivors, &err));
    CHECK(killed.count == 4 && pj_pids_has(&killed, up) == false); /* the root comes last, so the list is unsorted */
    CHECK(killed.items[3] == up && survivors.count == 0);
    _exit(42);
}

static void spares_the_caller_and_its_ancestors(void) {
    int verdict;
    int told[2];
    CHECK(pipe(told) == 0);
    pid_t top = fork();
    if (top == 0) {
        if (fork() == 0) {
            if (fork() == 0) {
                stay();
            }
            stay();
        }
        if (fork() == 0) { /* middle */
            pid_t caller = fork();
            if (caller == 0) {
                kill_own_grandparent((int)getpgrp());
            }
            CHECK(waitpid(caller, &verdict, 0) == caller);
            CHECK(write(told[1], &verdict, sizeof verdict) == sizeof verdict);
            _exit(0);
        }
        alarm(FUSE);
        for (;;) {
            pause();
        }
    }
    setpgid(top, top);
    CHECK(read(told[0], &verdict, sizeof verdict) == sizeof verdict);
    CHECK(WIFEXITED(verdict) && WEXITSTATUS(verdict) == 42);
    CHECK(waitpid(top, &verdict, 0) == top && WIFSIGNALED(verdict));
    close(told[0]);
    close(told[1]);
}

static void self_kill_completes(void) {
    int status;
    pid_t victim = fork();
    if (victim == 0) {
        pj_error err;
        pj_process self;
        pj_pids killed = {0}, survivors = {0};
        for (int at = 0; at < 5; at++) {
            if (fork() == 0) {
                deep(3);
            }
        }
        await_reports(20);
        OK(pj_process_open(getpid(), &self, &err));
        OK(pj_kill_tree(&self, true, pj_now() + 5000 * PJ_MS, NULL, &killed, &survivors, &err));
        _exit(9);
    }
    CHECK(waitpid(victim, &status, 0) == victim && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    pj_error err;
    pj_table table = {0};
    OK(pj_procfs_scan(&table, &err));
    for (size_t at = 0; at < table.count; at++) {
        CHECK(table.items[at].group != getpgrp() || table.items[at].pid == getpid() || pj_stat_dead(&table.items[at]) ||
              table.items[at].start < 1 || table.items[at].parent != 1);
    }
    pj_table_free(&table);
}

static void refuses_init_and_kernel_threads(void) {
    pj_error err;
    pj_process process;
    pj_pids killed = {0}, survivors = {0};
    pj_stat stat;
    OK(pj_process_open(1, &process, &err));
    CHECK(pj_kill_tree(&process, true, 0, NULL, &killed, &survivors, &err) == -1 && err.code == EPERM);
    CHECK(pj_kill_tree(&process, false, 0, NULL, &killed, &survivors, &err) == -1 && err.code == EPERM);
    pj_process_close(&process);
    if (pj_procfs_stat(2, &stat, &err) == 0 && stat.kernel) {
        OK(pj_process_open(2, &process, &err));
        CHECK(pj_kill_tree(&process, true, 0, NULL, &killed, &survivors, &err) == -1 && err.code == EPERM);
        pj_process_close(&process);
    }
}

static void waits_and_tells_the_status(void) {
    static const struct {
        int exit, sig, expected;
    } cases[] = {{0, 0, 0}, {3, 0, 3}, {255, 0, 255}, {0, SIGKILL, -SIGKILL}, {0, SIGTERM, -SIGTERM}};
    pj_error err;
    for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_DFL);
            usleep(50000);
            if (cases[at].sig) {
                raise(cases[at].sig);
            }
            _exit(cases[at].exit);
        }
        pj_process process;
        int status = -1000;
        bool known;
        OK(pj_process_open(child, &process, &err));
        CHECK(pj_process_wait(&process, 0, &status, &known, &err) == 1 && status == -1000);
        CHECK(pj_process_wait(&process, PJ_NEVER, &status, &known, &err) == 0);
        CHECK(known && status == cases[at].expected);
        CHECK(pj_process_signal(&process, SIGTERM, &err) == -1 && err.code == ESRCH); /* a zombie */
        int raw;
        CHECK(waitpid(child, &raw, 0) == child); /* never reaped by us */
        CHECK(pj_process_wait(&process, PJ_NEVER, &status, &known, &err) == 0);
        CHECK(!known || status == cases[at].expected); /* reaped: only Linux 6.15 and later know */
        CHECK(pj_process_signal(&process, 0, &err) == -1 && err.code == ESRCH);
        CHECK(pj_process_open(child, &process, &err) == -1 && err.code == ESRCH);
        pj_process_close(&process);
    }
}

/* As a kernel before 5.3, or a container's filter, answers. */
static void take_pidfds_away(int code) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_send_signal, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    CHECK(!pj_pidfd_works());
    pj_error err;
    pj_process self;
    OK(pj_process_open(getpid(), &self, &err));
    CHECK(self.handle == -1 && self.created != 0);
}

static void all(void) {
    RUN(waits_and_tells_the_status);
    RUN(lists_and_kills_wide);
    RUN(lists_and_kills_deep);
    RUN(ends_a_fork_storm);
    RUN(ends_a_growing_tree);
    RUN(few_descriptors);
    RUN(full_table_of_descriptors);
    RUN(an_error_leaves_nobody_stopped);
    RUN(a_passed_deadline_is_one_attempt);
    RUN(contains_and_signal);
    RUN(a_parent_that_died_during_the_scan_is_not_believed);
    RUN(a_walk_learns);
    RUN(dead_roots_count_for_nothing);
    RUN(without_pidfds);
    RUN(kills_a_tree_and_its_root_last);
    RUN(spares_the_caller_and_its_ancestors);
    RUN(self_kill_completes);
    RUN(refuses_init_and_kernel_threads);
}

int main(void) {
    static const int answers[] = {0, ENOSYS, EPERM};
    hops = mmap(NULL, sizeof *hops, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(hops != MAP_FAILED && pipe(ready) == 0);
    for (size_t at = 0; at < sizeof answers / sizeof *answers; at++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            if (answers[at]) {
                fprintf(stderr, "--- without pidfds, errno %d\n", answers[at]);
                take_pidfds_away(answers[at]);
            }
            all();
            exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    return 0;
}
