/* Names, and what is left of an owner. See cgroup_bed.h. */
#include "cgroup_bed.h"

static void named(void) {
    char name[64];
    snprintf(name, sizeof name, "c-test-%ld", (long)getpid());
    pj_job *job = make(NULL, false, name), *other;
    pj_create how = {platform, NULL, name, false, guard_path};
    CHECK(pj_cgroup_backend.create(&how, &other, &err) == -1 && err.code == EEXIST);
    OK(pj_cgroup_backend.open(name, &other, &err));
    pid_t pid = start(job, "exec sleep 60");
    CHECK(count(other) == 1 && has(other, pid) && other->keep);
    CHECK(pj_cgroup_backend.assign_self(other, &err) == -1 && err.kind == PJ_E_UNSUPPORTED);
    end(other);
    reap(pid);
    unmake(other);
    unmake(job);
    CHECK(pj_cgroup_backend.open(name, &other, &err) == -1 && err.code == ENOENT);
    job = make(NULL, true, name); /* its members outlive it, and so does its name */
    pid = start(job, "exec sleep 60");
    unmake(job);
    OK(pj_cgroup_backend.open(name, &other, &err));
    CHECK(pj_cgroup_backend.create(&how, &job, &err) == -1 && err.code == EEXIST);
    end(other);
    reap(pid);
    unmake(other);
    CHECK(pj_cgroup_backend.open(name, &other, &err) == -1 && err.code == ENOENT);
    job = make(NULL, false, name);
    unmake(job);
}

static void named_from_inside(void) {
    char name[64];
    snprintf(name, sizeof name, "c-test-%ld", (long)getpid());
    pj_job *job = make(NULL, false, name), *nest = make(job, false, NULL);
    pid_t beside = start(nest, "exec sleep 60"), pid = fork();
    if (pid == 0) {
        pj_job *opened;
        pj_platform_forked(platform);
        OK(pj_cgroup_backend.join(job, &err));
        OK(pj_cgroup_backend.open(name, &opened, &err));
        pid_t child = fork();
        if (child == 0) {
            for (;;) {
                pause();
            }
        }
        end(opened);
        CHECK(count(opened) == 1 && has(opened, getpid()));
        CHECK(reap(child) == SIGKILL);
        end(opened);
        unmake(opened);
        _exit(42);
    }
    CHECK(WEXITSTATUS(reap(pid)) == 42);
    CHECK(reap(beside) == SIGKILL);
    CHECK(count(job) == 0);
    unmake(nest);
    unmake(job);
}

static void released(void) {
    char path[PJ_CGROUP_PATH];
    pj_job *job = make(NULL, false, NULL), *nest = make(job, false, NULL);
    pid_t pid = start(nest, "exec sleep 60");
    OK(pj_cgroup_backend.release(job, &err));
    CHECK(job->keep);
    where(nest, path, sizeof path);
    struct stat stat_;
    CHECK(stat(path, &stat_) == 0 && (stat_.st_mode & S_ISVTX));
    unmake(nest);
    unmake(job);
    CHECK(kill(pid, 0) == 0 && exists(path));
    kill(pid, SIGKILL);
    reap(pid);
    pj_root_tidy(platform->root, 100);
    CHECK(!exists(path));
}

static void guard_replaced(void) {
    pj_job *job = make(NULL, false, NULL);
    pj_process *guard = &platform->root->guard;
    const pj_pid first = guard->pid;
    CHECK(kill((pid_t)guard->pid, SIGKILL) == 0);
    for (bool alive = true; alive;) {
        OK(pj_process_alive(guard, &alive, &err));
    }
    pj_job *other = make(NULL, false, NULL);
    CHECK(platform->root->guard.pid != first);
    unmake(other);
    unmake(job);
    CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD); /* a guard is nobody's child here */
}

static void owner_killed(void) {
    int report[2];
    CHECK(pipe(report) == 0);
    pid_t owner = fork();
    if (owner == 0) {
        pj_platform_forked(platform);
        pj_job *job = make(NULL, false, NULL), *kept = make(NULL, false, NULL), *doomed = make(kept, false, NULL);
        pid_t lives = start(kept, "exec sleep 60");
        OK(pj_cgroup_backend.release(kept, &err));
        pj_job *late = make(kept, false, NULL);
        start(late, "exec sleep 60");
        start(doomed, "exec sleep 60");
        CHECK(write(report[1], &lives, sizeof lives) == sizeof lives);
        char path[PJ_CGROUP_PATH] = "";
        snprintf(path, sizeof path, "%s", platform->root->where);
        CHECK(write(report[1], path, sizeof path) == sizeof path);
        for (;;) {
            start(job, "sleep 60 & setsid sleep 60 & exec sleep 60");
        }
    }
    pid_t lives;
    char path[PJ_CGROUP_PATH];
    CHECK(read(report[0], &lives, sizeof lives) == sizeof lives);
    CHECK(read(report[0], path, sizeof path) == sizeof path);
    poll(NULL, 0, 100);
    kill(owner, SIGKILL);
    reap(owner);
    pj_dir root;
    pj_deadline deadline = pj_now() + 1000 * PJ_MS;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pj_pids members = {0};
    pj_cgroup_job all = {.base = fd, .path = ""};
    do {
        pj_pids_free(&members);
        OK(pj_cgroup_list(&all.head, &members, &err));
        poll(NULL, 0, 5);
    } while (members.count != 2 && pj_now() < deadline);
    CHECK(members.count == 2); /* of the released job and of that nested in it at the time */
    CHECK(pj_pids_has(&members, lives));
    pj_pids_free(&members);
    close(fd);
    pj_platform *fresh = pj_platform_new(); /* the next root's sweep finds the dead owner's */
    kill(lives, SIGKILL);
    poll(NULL, 0, 100);
    pj_create how = {fresh, NULL, NULL, true, guard_path};
    pj_job *job;
    OK(pj_cgroup_backend.create(&how, &job, &err));
    CHECK(exists(path)); /* the second one lives */
    unmake(job);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pj_dir_set(&root, fd, "");
    OK(pj_dir_kill(&root, NULL));
    poll(NULL, 0, 50);
    close(fd);
    OK(pj_cgroup_backend.create(&how, &job, &err));
    CHECK(!exists(path));
    unmake(job);
    pj_platform_free(fresh);
    close(report[0]);
    close(report[1]);
}

static void all(void) {
    RUN(named);
    RUN(named_from_inside);
    RUN(released);
    RUN(guard_replaced);
    RUN(owner_killed);
}

int main(int argc, char **argv) {
    return run_twice(argc, argv, all);
}
