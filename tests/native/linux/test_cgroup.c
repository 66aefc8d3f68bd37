/* csrc/linux/cgroup*.c: members, and the life of a leaf. See cgroup_bed.h. */
#include "cgroup_bed.h"

static void probe(void) {
    pj_probe found;
    pj_cgroup_backend.probe(guard_path, &found);
    if (!found.available) {
        fprintf(stderr, "not available: %s; %s\n", found.why, found.help);
    }
    CHECK(found.available);
    CHECK(found.guarantees & PJ_ESCAPE_PROOF);
    pj_cgroup_backend.probe("/nonexistent/guard", &found);
    CHECK(!found.available && strstr(found.why, "/nonexistent/guard") && *found.help);
}

static void missing_guard(void) {
    pj_platform *fresh = pj_platform_new();
    pj_job *job;
    pj_create how = {fresh, NULL, NULL, false, "/nonexistent/guard"};
    CHECK(pj_cgroup_backend.create(&how, &job, &err) == -1);
    CHECK(err.code == ENOENT && strstr(err.call, "/nonexistent/guard"));
    CHECK(fresh->root == NULL);
    how.guard = "/dev/null";
    CHECK(pj_cgroup_backend.create(&how, &job, &err) == -1 && err.code == EACCES && strstr(err.call, "/dev/null"));
    how.keep = true; /* needs none */
    how.guard = "/nonexistent/guard";
    OK(pj_cgroup_backend.create(&how, &job, &err));
    char path[PJ_CGROUP_PATH];
    snprintf(path, sizeof path, "%s", ((pj_cgroup_job *)job)->root->where);
    CHECK(exists(path));
    unmake(job);
    CHECK(!exists(path)); /* nobody else would remove it */
    pj_platform_free(fresh);
}

static void life(void) {
    pj_job *job = make(NULL, false, NULL);
    CHECK(count(job) == 0);
    pid_t pid = start(job, "sleep 60 & setsid sleep 60 & (setsid sleep 60 &) ; wait");
    await_count(job, 4);
    CHECK(has(job, pid) && !has(job, getpid()) && !has(job, 1));
    CHECK(pj_cgroup_backend.wait(job, pj_now(), &err) == 1);
    OK(pj_cgroup_backend.signal(job, SIGCONT, &err));
    end(job);
    CHECK(count(job) == 0);
    CHECK(!has(job, pid)); /* a zombie is no living member */
    CHECK(WTERMSIG(reap(pid)) == SIGKILL);
    CHECK(pj_cgroup_backend.wait(job, pj_now(), &err) == 0);
    end(job);
    pid = start(job, "exit 7"); /* killed before: the kernel would kill what is cloned into it */
    CHECK(WEXITSTATUS(reap(pid)) == 7);
    char path[PJ_CGROUP_PATH];
    where(job, path, sizeof path);
    CHECK(exists(path));
    unmake(job);
    CHECK(!exists(path));
}

static void pool(void) {
    char first[PJ_CGROUP_PATH], second[PJ_CGROUP_PATH];
    pj_job *job = make(NULL, false, NULL);
    where(job, first, sizeof first);
    CHECK(reap(start(job, "exit 0")) == 0);
    end(job); /* nobody to kill: as new */
    unmake(job);
    CHECK(exists(first));
    job = make(NULL, false, NULL);
    where(job, second, sizeof second);
    CHECK(strcmp(first, second) == 0);
    CHECK(chmod(second, 0700) == 0); /* no longer as it was made */
    unmake(job);
    CHECK(!exists(second));
    job = make(NULL, false, NULL);
    where(job, first, sizeof first);
    strcat(first, "/members-own");
    CHECK(mkdir(first, 0755) == 0);
    unmake(job);
    CHECK(!exists(first));
    pj_job *many[PJ_POOL + 3];
    for (int i = 0; i < PJ_POOL + 3; i++) {
        many[i] = make(NULL, false, NULL);
    }
    for (int i = 0; i < PJ_POOL + 3; i++) {
        unmake(many[i]);
    }
    CHECK(platform->root->pooled == PJ_POOL);
}

static void nested(void) {
    pj_job *outer = make(NULL, false, NULL), *inner = make(outer, false, NULL), *other = make(outer, false, NULL);
    pid_t one = start(inner, "exec sleep 60"), two = start(other, "exec sleep 60"),
          three = start(outer, "exec sleep 60");
    CHECK(count(outer) == 3 && count(inner) == 1);
    CHECK(has(outer, one) && has(inner, one) && !has(inner, two) && has(outer, three));
    end(inner);
    CHECK(count(outer) == 2);
    end(outer);
    CHECK(count(outer) == 0 && count(other) == 0);
    reap(one);
    reap(two);
    reap(three);
    unmake(outer); /* before those in it */
    CHECK(count(inner) == 0);
    unmake(inner);
    unmake(other);
}

static void killed_one_by_one(void) {
    pj_job *job = make(NULL, false, NULL);
    char path[PJ_CGROUP_PATH];
    where(job, path, sizeof path);
    strcat(path, "/deep");
    CHECK(mkdir(path, 0755) == 0);
    pid_t pid = start(job, "i=0; while [ $i -lt 80 ]; do sleep 60 & i=$((i+1)); done; wait");
    pid_t deep = start(job, "exec sleep 60");
    strcat(path, "/cgroup.procs");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && dprintf(fd, "%d", (int)deep) > 0);
    close(fd);
    await_count(job, 82);
    pj_dir dir;
    OK(pj_dir_kill_each(pj_leaf((pj_cgroup_job *)job, &dir)));
    CHECK(reap(pid) == SIGKILL && reap(deep) == SIGKILL);
    CHECK(pj_cgroup_backend.wait(job, pj_now() + 5000 * PJ_MS, &err) == 0);
    unmake(job);
}

static void storm(void) {
    pj_job *job = make(NULL, false, NULL);
    pid_t pid = start(job, "f() { while :; do (setsid sh -c 'sleep 0.01' &) ; done; }; f & f & f & f & wait");
    poll(NULL, 0, 200);
    end(job);
    CHECK(reap(pid) == SIGKILL);
    CHECK(count(job) == 0);
    unmake(job);
}

static void killed_home(void) {
    char path[2 * PJ_CGROUP_PATH];
    snprintf(path, sizeof path, "%s", platform->root->where);
    snprintf(strrchr(path, '/'), 64, "/c-test-home-%ld", (long)getpid());
    CHECK(mkdir(path, 0755) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        pj_dir dir;
        pj_platform_forked(platform);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        pj_dir_set(&dir, fd, "");
        OK(pj_dir_write(&dir, "cgroup.kill", "1"));
        OK(pj_dir_write(&dir, "cgroup.procs", "0"));
        pj_job *job = make(NULL, false, NULL);
        CHECK(WEXITSTATUS(reap(start(job, "exit 3"))) == 3);
        pid_t sleeper = start(job, "exec sleep 60");
        end(job);
        CHECK(reap(sleeper) == SIGKILL);
        unmake(job);
        _exit(42);
    }
    CHECK(WEXITSTATUS(reap(pid)) == 42);
    for (int i = 0; i < 500 && rmdir(path) < 0; i++) {
        poll(NULL, 0, 2);
    }
    CHECK(!exists(path));
}

static void all(void) {
    RUN(probe);
    RUN(missing_guard);
    RUN(life);
    RUN(pool);
    RUN(nested);
    RUN(killed_one_by_one);
    RUN(storm);
    RUN(killed_home);
}

int main(int argc, char **argv) {
    return run_twice(argc, argv, all);
}
