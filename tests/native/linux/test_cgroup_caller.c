/* The caller in a job of his own, and processes that are moved into one. See cgroup_bed.h. */
#include <pthread.h>

#include "cgroup_bed.h"
#include "linux/pidref.h"

static void enclosed(void) {
    char before[PJ_CGROUP_PATH], after[PJ_CGROUP_PATH];
    OK(pj_cgroup_own(before, &err));
    pj_job *outer = make(NULL, false, NULL), *job = make(outer, false, NULL), *nest = make(job, false, NULL);
    pid_t direct = start(job, "sleep 60 & exec sleep 60"), beside = start(outer, "exec sleep 60");
    OK(pj_cgroup_backend.assign_self(job, &err));
    OK(pj_cgroup_backend.assign_self(job, &err)); /* again: nothing */
    CHECK(has(job, getpid()) && has(outer, getpid()) && !has(nest, getpid()));
    pid_t in_nest = start(nest, "exec sleep 60");
    pid_t forked = idle();
    CHECK(has(job, forked) && has(job, in_nest));
    await_count(job, 5);
    CHECK(pj_cgroup_backend.wait(job, pj_now() + 20 * PJ_MS, &err) == 1);
    end(job);
    CHECK(count(job) == 1 && count(nest) == 0 && count(outer) == 2);
    CHECK(pj_cgroup_backend.wait(job, pj_now(), &err) == 0);
    CHECK(reap(direct) == SIGKILL && reap(in_nest) == SIGKILL && reap(forked) == SIGKILL);
    end(outer); /* he is deeper than this one: */
    CHECK(count(outer) == 1);
    reap(beside);
    pid_t again = start(nest, "exec sleep 60");
    CHECK(count(job) == 2);
    end(job);
    reap(again);
    CHECK(job->holds_caller && (job->denied & PJ_ATOMIC_KILL));
    unmake(nest);
    unmake(job);
    OK(pj_cgroup_own(after, &err));
    CHECK(strcmp(before, after) == 0 && count(outer) == 0);
    unmake(outer);
}

static void enclosed_twice(void) {
    char before[PJ_CGROUP_PATH], after[PJ_CGROUP_PATH];
    OK(pj_cgroup_own(before, &err));
    pj_job *outer = make(NULL, false, NULL), *inner = make(outer, false, NULL);
    OK(pj_cgroup_backend.assign_self(outer, &err));
    OK(pj_cgroup_backend.assign_self(inner, &err));
    CHECK(has(inner, getpid()));
    pid_t pid = start(outer, "exec sleep 60");
    end(outer); /* removes the place that he had in it before */
    reap(pid);
    unmake(inner);
    CHECK(has(outer, getpid()));
    unmake(outer);
    OK(pj_cgroup_own(after, &err));
    CHECK(strcmp(before, after) == 0);
}

static void *start_all_the_time(void *arg) {
    atomic_bool *stop = arg;
    while (!atomic_load(stop)) {
        pid_t pid = fork();
        if (pid == 0) {
            for (;;) {
                pause();
            }
        }
    }
    return NULL;
}

static void enclosed_while_starting(void) {
    pj_job *job = make(NULL, false, NULL);
    OK(pj_cgroup_backend.assign_self(job, &err));
    atomic_bool stop;
    atomic_init(&stop, false);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, start_all_the_time, &stop) == 0);
    for (int i = 0; i < 20; i++) {
        pj_pids left = {0};
        OK(pj_cgroup_backend.kill(job, pj_now() + 20 * PJ_MS, &left, &err));
        pj_pids_free(&left);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    end(job);
    CHECK(count(job) == 1);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    unmake(job);
}

static void assigned(void) {
    pj_job *job = make(NULL, false, NULL);
    pid_t pid = idle();
    pj_process process;
    OK(pj_process_open(pid, &process, &err));
    OK(pj_cgroup_backend.assign(job, &process, &err));
    OK(pj_cgroup_backend.assign(job, &process, &err)); /* a member already */
    CHECK(count(job) == 1 && has(job, pid));
    end(job);
    CHECK(pj_cgroup_backend.assign(job, &process, &err) == -1 && err.code == ESRCH); /* a zombie */
    reap(pid);
    CHECK(pj_cgroup_backend.assign(job, &process, &err) == -1 && err.code == ESRCH);
    pj_process_close(&process);
    CHECK(count(job) == 0);
    unmake(job);
    CHECK(platform->root->lingering == NULL || (pj_root_tidy(platform->root, 100), platform->root->lingering == NULL));
}

static void assigned_wrongly(void) {
    if (!pj_pidfd_works()) {
        return; /* start times of the same 10 ms are one identity */
    }
    char before[PJ_CGROUP_PATH], after[PJ_CGROUP_PATH];
    pj_job *job = make(NULL, false, NULL);
    pid_t stranger = idle();
    pid_t gone = idle();
    pj_process process;
    OK(pj_process_open(gone, &process, &err));
    kill(gone, SIGKILL);
    reap(gone);
    process.pid = stranger; /* the identity of the dead one, the number of another */
    OK(pj_cgroup_of(stranger, before, &err));
    CHECK(pj_cgroup_backend.assign(job, &process, &err) == -1 && err.code == ESRCH);
    OK(pj_cgroup_of(stranger, after, &err));
    CHECK(strcmp(before, after) == 0 && count(job) == 0);
    pj_process_close(&process);
    kill(stranger, SIGKILL);
    reap(stranger);
    unmake(job);
}

static void joined(void) {
    pj_job *job = make(NULL, false, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        pj_platform_forked(platform);
        if (pj_cgroup_backend.join(job, &err) < 0) {
            _exit(1);
        }
        pj_cgroup_backend.abandon(job);
        for (;;) {
            pause();
        }
    }
    await_count(job, 1);
    CHECK(has(job, pid));
    end(job);
    reap(pid);
    unmake(job);
}

static void all(void) {
    RUN(enclosed);
    RUN(enclosed_twice);
    RUN(enclosed_while_starting);
    RUN(assigned);
    RUN(assigned_wrongly);
    RUN(joined);
}

int main(int argc, char **argv) {
    return run_twice(argc, argv, all);
}
