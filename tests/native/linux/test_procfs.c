/* csrc/linux/procfs.c: hostile names, broken lines, and what may not be taken for "nobody".
 *
 *   cc -std=c11 -D_GNU_SOURCE -g -fsanitize=address,undefined -Icsrc -Itests/native/linux
 * tests/native/linux/test_procfs.c csrc/linux/procfs.c -lpthread */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "linux/procfs.h"

#define TAIL                                                                                                           \
    " S 7 8 9 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456789 1000 2000 18446744073709551615 1 1 0 0 0 0 0 4096 "  \
    "0 1 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 768\n"

static bool parse(const char *text, pj_stat *out) {
    return pj_parse_stat(text, strlen(text), out);
}

static void hostile_names(void) {
    static const char *const names[] = {"cat",       "",      ")",           "(",     ") S 1 2 3", "a) Z 1 1 1 (b",
                                        "new\nline", ") R 1", "))))))))))",  "\t \t", "\xff\xfe)", "1 (x) S 2 3 4 5",
                                        " ",         ") ",    "a b c d e f", "(((("};
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        char line[512];
        pj_stat stat;
        snprintf(line, sizeof line, "42 (%s)%s", names[at], TAIL);
        CHECK(parse(line, &stat));
        CHECK(stat.pid == 42 && stat.parent == 7 && stat.group == 8 && stat.session == 9 && stat.state == 'S');
        CHECK(stat.threads == 3 && stat.start == 123456789 && !stat.thread && !stat.kernel && stat.exit_code == 768);
    }
}

static void broken_lines(void) {
    static const char *const lines[] = {
        "",
        "42",
        "42 ",
        "42 (",
        "42 ()",
        "42 () ",
        "42 (x) S",
        "x (y)" TAIL,
        "-1 (y)" TAIL,
        "0 (y)" TAIL,
        "2147483648 (y)" TAIL,
        "99999999999999999999999 (y)" TAIL,
        "42 (x" TAIL,
        "42 x)" TAIL,
        "42(x)" TAIL,
        "42 (x) 1 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24",
        "42 (x) S 7 8 9 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 ",
        "42 (x) S 7 8 9 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 - 1",
        "42 (x) S 7 8 9 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99999999999999999999 1",
        "42 (x) S -7 8 9 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 5 1",
    };
    for (size_t at = 0; at < sizeof lines / sizeof *lines; at++) {
        pj_stat stat = {.pid = -5};
        CHECK(!parse(lines[at], &stat));
        CHECK(stat.pid == -5);
    }
}

/* From the heap, so that the sanitizer sees a read past the end. */
static void parse_copy(const char *text, size_t length) {
    char *copy = malloc(length + !length);
    pj_stat stat;
    CHECK(copy);
    memcpy(copy, text, length);
    if (pj_parse_stat(copy, length, &stat)) {
        CHECK(stat.pid > 0 && stat.parent >= 0 && stat.state != 0);
    }
    free(copy);
}

static void every_prefix_and_many_mutations(void) {
    static const char line[] = "4242 (a) b (c)" TAIL;
    for (size_t length = 0; length < sizeof line; length++) {
        parse_copy(line, length);
    }
    static const char alphabet[] = "0123456789() -\nSZ\0\xff";
    uint32_t seed = 1;
    for (int round = 0; round < 200000; round++) {
        char text[sizeof line];
        memcpy(text, line, sizeof line);
        for (int change = 0; change < 1 + round % 5; change++) {
            seed = seed * 1664525 + 1013904223;
            text[(seed >> 16) % sizeof line] = alphabet[(seed >> 8) % sizeof alphabet];
        }
        parse_copy(text, sizeof line - seed % 7);
    }
}

static pid_t start_named(const char *name) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_NAME, name);
        CHECK(write(ready[1], "", 1) == 1);
        pause();
        _exit(0);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void end(pid_t child) {
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
}

static void living_hostile_name(void) {
    pid_t child = start_named(") Z 1 1 1\n(");
    pj_error err;
    pj_stat stat;
    OK(pj_procfs_stat(child, &stat, &err));
    CHECK(stat.pid == child && stat.parent == getpid() && stat.group == getpgrp() && !pj_stat_dead(&stat));
    kill(child, SIGKILL);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    OK(pj_procfs_stat(child, &stat, &err));
    CHECK(pj_stat_dead(&stat) && stat.exit_code == SIGKILL);
    end(child);
    CHECK(pj_procfs_stat(child, &stat, &err) == -1 && err.code == ESRCH);
}

static void no_process(void) {
    static const pj_pid bad[] = {0, -1, INT64_MIN, INT64_MAX, (pj_pid)1 << 32};
    pj_error err;
    pj_stat stat;
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        CHECK(pj_procfs_stat(bad[at], &stat, &err) == -1 && err.code == EINVAL);
    }
    CHECK(pj_procfs_stat(INT32_MAX, &stat, &err) == -1 && err.code == ESRCH);
}

static void *tell_id(void *out) {
    *(atomic_long *)out = syscall(SYS_gettid);
    pause();
    return NULL;
}

static void thread_is_no_process(void) {
    pthread_t thread;
    atomic_long id = 0;
    pj_error err;
    pj_stat stat;
    CHECK(pthread_create(&thread, NULL, tell_id, &id) == 0);
    while (id == 0) {
        usleep(1000);
    }
    CHECK(pj_procfs_stat(id, &stat, &err) == -1 && err.code == ESRCH);
    OK(pj_procfs_stat(getpid(), &stat, &err));
    CHECK(stat.threads >= 2);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

static void *outlive(void *ready) {
    usleep(50000);
    CHECK(write(*(int *)ready, "", 1) == 1);
    pause();
    return NULL;
}

static void dead_leader_with_living_threads(void) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, outlive, &ready[1]) == 0);
        syscall(SYS_exit, 0); /* the leader alone */
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    pj_error err;
    pj_stat stat;
    OK(pj_procfs_stat(child, &stat, &err));
    CHECK(stat.state == 'Z' && !pj_stat_dead(&stat));
    end(child);
    close(ready[0]);
    close(ready[1]);
}

static void whole_scan(void) {
    enum { COUNT = 50 };
    pid_t children[COUNT];
    pj_error err;
    pj_table table = {0};
    for (int at = 0; at < COUNT; at++) {
        children[at] = start_named("scanned");
    }
    OK(pj_procfs_scan(&table, &err));
    OK(pj_procfs_scan(&table, &err)); /* the memory is used again */
    for (size_t at = 1; at < table.count; at++) {
        CHECK(table.items[at - 1].pid < table.items[at].pid);
    }
    for (int at = 0; at < COUNT; at++) {
        const pj_stat *found = pj_table_find(&table, children[at]);
        CHECK(found && found->parent == getpid());
        end(children[at]);
    }
    CHECK(pj_table_find(&table, getpid()) && !pj_table_find(&table, INT32_MAX));
    OK(pj_procfs_scan(&table, &err));
    CHECK(!pj_table_find(&table, children[0]));
    pj_table_free(&table);
}

static void no_descriptor_left(void) {
    struct rlimit before, none;
    pj_error err;
    pj_stat stat;
    pj_table table = {0};
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    int proc = pj_procfs_open(&err);
    CHECK(proc >= 0);
    none.rlim_cur = (rlim_t)proc + 1;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(pj_procfs_stat(getpid(), &stat, &err) == -1 && err.code == EMFILE);
    CHECK(pj_procfs_stat_at(proc, getpid(), &stat, &err) == -1 && err.code == EMFILE);
    CHECK(pj_procfs_scan(&table, &err) == -1 && err.code == EMFILE);
    none.rlim_cur++; /* enough for the folder, not for the files in it */
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(pj_procfs_scan(&table, &err) == -1 && err.code == EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    close(proc);
    pj_table_free(&table);
}

int main(void) {
    RUN(hostile_names);
    RUN(broken_lines);
    RUN(every_prefix_and_many_mutations);
    RUN(living_hostile_name);
    RUN(no_process);
    RUN(thread_is_no_process);
    RUN(dead_leader_with_living_threads);
    RUN(whole_scan);
    RUN(no_descriptor_left);
    return 0;
}
