/* Into a job and out of it, alive. All under the lock, see struct pj_platform. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/cgroup.h"
#include "linux/stage.h"
#include "linux/tree.h"

/* No name of this process is used twice. Others that opened the job by name count by themselves. */
static unsigned long next_number(pj_cgroup_job *job) {
    return job->root ? ++job->root->made : ++job->made;
}

static int set_mode(const pj_cgroup_job *job, const pj_dir *dir, mode_t more, pj_error *err) {
    mode_t mode = 0755 | more | (job->head.keep ? S_ISVTX : 0); /* whatever the umask says */
    return fchmodat(dir->base, dir->text, mode, 0) < 0 ? pj_fail(err, errno, "fchmodat (cgroup)") : 0;
}

int pj_cgroup_make(pj_cgroup_job *job, pj_dir *dir, const char *prefix, pj_error *err) {
    const size_t length = dir->length;
    for (;;) {
        char name[48];
        snprintf(name, sizeof name, "%s%lu", prefix, next_number(job));
        if (!pj_dir_enter(dir, name)) {
            return pj_fail(err, errno, "mkdir (cgroup)");
        }
        if (mkdirat(dir->base, dir->text, 0755) == 0) {
            break;
        }
        int code = errno;
        pj_dir_leave(dir, length);
        if (code != EEXIST) {
            return pj_fail(err, code, "mkdir (cgroup)");
        }
    }
    bool stage = strcmp(prefix, PJ_STAGE_PREFIX) == 0;
    if (set_mode(job, dir, stage ? S_ISUID : 0, err) < 0) {
        (void)pj_dir_remove(dir);
        return -1;
    }
    return 0;
}

int pj_cgroup_enter(pj_cgroup_job *job, pj_dir *dir, pj_error *err) {
    if (pj_cgroup_make(job, dir, PJ_SELF_PREFIX, err) < 0) {
        return -1;
    }
    if (pj_dir_write(dir, "cgroup.procs", "0") < 0) {
        int code = errno;
        (void)pj_dir_remove(dir);
        return pj_fail(err, code, "write cgroup.procs");
    }
    return 0;
}

/* ---- the caller ---- */

static void deny_atomic(pj_cgroup_job *job, bool deny) {
    for (pj_job *at = &job->head; at; at = at->parent) {
        if (deny) {
            at->denied |= PJ_ATOMIC_KILL;
        } else {
            at->denied &= ~(unsigned)PJ_ATOMIC_KILL;
        }
    }
}

static int enter_from(pj_cgroup_job *job, pj_error *err) {
    char own[PJ_CGROUP_PATH];
    pj_dir dir;
    if (pj_cgroup_own(own, err) < 0) {
        return -1;
    }
    int former = pj_cgroup_open(own, NULL, err);
    if (former < 0) {
        return -1;
    }
    if (pj_cgroup_enter(job, pj_leaf(job, &dir), err) < 0) {
        close(former);
        return -1;
    }
    job->former = former;
    return 0;
}

int pj_cgroup_assign_self(pj_job *head, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    char rest[PJ_CGROUP_PATH];
    bool inside;
    if (!job->root) {
        return pj_unsupported(err, "a job that was opened by name takes nobody in");
    }
    pthread_mutex_lock(job->lock);
    int result = pj_cgroup_caller(job, &inside, rest, err);
    if (result == 0 && !inside) {
        result = enter_from(job, err);
    }
    if (result == 0 && !head->holds_caller) {
        head->holds_caller = true;
        job->root->held++;
        deny_atomic(job, true);
    }
    pthread_mutex_unlock(job->lock);
    return result;
}

static bool join_directory(pj_dir *dir) {
    return pj_dir_write(dir, "cgroup.procs", "0") == 0;
}

/* Where he was before; if that is gone, to the job around; if there is none, to where the root was made. */
static void leave(pj_cgroup_job *job) {
    pj_dir dir;
    pj_error ignored;
    (void)pj_dir_set(&dir, job->former, "");
    if (job->former >= 0 && join_directory(&dir)) {
        return;
    }
    pj_cgroup_job *around = (pj_cgroup_job *)job->head.parent;
    if (around && around->path && around->head.holds_caller &&
        pj_cgroup_enter(around, pj_leaf(around, &dir), &ignored) == 0) {
        return;
    }
    (void)pj_dir_set(&dir, job->root->home, "");
    (void)join_directory(&dir);
}

void pj_cgroup_return(pj_cgroup_job *job) {
    char rest[PJ_CGROUP_PATH];
    bool inside;
    pj_error ignored;
    if (!job->head.holds_caller) {
        return;
    }
    if (pj_cgroup_caller(job, &inside, rest, &ignored) == 0 && inside) {
        leave(job);
    }
    job->head.holds_caller = false;
    job->root->held--;
    if (job->root->held == 0) {
        deny_atomic(job, false);
    }
}

/* ---- another process ---- */

enum { LOCKED_MS = 5000 }; /* more than any attempt to kill lasts */

static int put_back_one(pid_t pid, void *arg) {
    char text[16];
    pj_dir former;
    (void)pj_dir_set(&former, *(int *)arg, "");
    snprintf(text, sizeof text, "%d", (int)pid);
    (void)pj_dir_write(&former, "cgroup.procs", text); /* ESRCH: it has ended */
    return 0;
}

/* Whoever is there came, perhaps, by a recycled number. Its children may be born there meanwhile. */
static int put_back(pj_dir *stage, int former) {
    for (int tries = 0; tries < 100 && pj_dir_populated(stage) == 1; tries++) {
        (void)pj_dir_procs(stage, put_back_one, &former);
        if (tries > 10) {
            poll(NULL, 0, 1);
        }
    }
    return pj_dir_remove(stage);
}

typedef struct {
    pj_cgroup_job *job;
    const pj_process *process;
    int former; /* the group that it is in */
} moved;

/* The kernel moves by number. The directory is new and empty, so whoever is in it after the move is whom it moved: if
 * the pinned process lives then, it was that one, there it stays, and the directory becomes part of the job. */
static int move(const moved *what, pj_error *err) {
    pj_cgroup_job *job = what->job;
    const pj_process *process = what->process;
    pj_dir stage;
    char text[24];
    bool alive = false;
    if (pj_cgroup_make(job, pj_leaf(job, &stage), PJ_STAGE_PREFIX, err) < 0) {
        return -1;
    }
    snprintf(text, sizeof text, "%lld", (long long)process->pid);
    if (pj_dir_write(&stage, "cgroup.procs", text) < 0) {
        int code = errno;
        (void)pj_dir_remove(&stage);
        return pj_fail(err, code, "write cgroup.procs");
    }
    int looked = pj_process_alive(process, &alive, err);
    if (looked == 0 && alive) {
        looked = set_mode(job, &stage, 0, err);
    }
    if (looked == 0 && alive) {
        pj_root_linger(job->root, stage.text); /* to be removed when it is empty */
        return 0;
    }
    if (put_back(&stage, what->former) < 0) {
        pj_root_linger(job->root, stage.text);
    }
    return looked < 0 ? -1 : pj_fail(err, ESRCH, "write cgroup.procs");
}

/* With each leaf around locked, this job's and those that our own group is in: see stage.h. `size`: how much of the
 * job's path names `around`. 1: somebody is just killing one. */
static int move_in(const moved *what, pj_dir *around, size_t size, pj_error *err) {
    const char *proc = what->job->proc;
    const char *name = size > 0 ? memrchr(proc, '/', size) : NULL;
    if (!name) {
        return move(what, err);
    }
    int lock = -1;
    if (strncmp(name + 1, PJ_LEAF_PREFIX, sizeof PJ_LEAF_PREFIX - 1) == 0) {
        lock = pj_leaf_lock(around, LOCK_SH);
        int code = errno;
        if (lock < 0 && code != ENOENT && code != EACCES) { /* where we see no leaf, we see none be killed */
            pj_fail(err, code, around->call);
            return code == EWOULDBLOCK ? 1 : -1;
        }
    }
    int result = pj_dir_enter(around, "..") ? move_in(what, around, (size_t)(name - proc), err)
                                            : pj_fail(err, errno, "openat (cgroup)");
    if (lock >= 0) {
        pj_leaf_unlock(lock);
    }
    return result;
}

static int assign_locked(pj_cgroup_job *job, const pj_process *process, pj_error *err) {
    bool member, alive;
    char path[PJ_CGROUP_PATH];
    if (pj_cgroup_contains(&job->head, process, &member, err) < 0) {
        return -1;
    }
    if (member) { /* perhaps of a job in this one, which it must not lose */
        return 0;
    }
    pj_root_tidy(job->root, 4);
    pj_stat stat;
    pj_error deaf, refused;
    int heard = pj_refuse_deaf(process, &stat, &deaf);
    int known = pj_cgroup_of(process->pid, path, err);
    if (pj_process_alive(process, &alive, &refused) < 0) {
        *err = refused;
        return -1;
    }
    if (!alive) {
        return pj_fail(err, ESRCH, "write cgroup.procs");
    }
    if (heard < 0 && deaf.code == EPERM) { /* it would stay in the job for ever */
        *err = deaf;
        return -1;
    }
    if (known < 0) { /* where it would have to be put back */
        return err->code == ESRCH ? pj_fail(err, EACCES, "read /proc/PID/cgroup") : -1;
    }
    int former = pj_cgroup_open(path, NULL, err);
    if (former < 0) {
        return -1;
    }
    pj_dir leaf;
    const moved what = {job, process, former};
    int result = move_in(&what, pj_leaf(job, &leaf), strlen(job->proc), err);
    close(former);
    return result;
}

int pj_cgroup_assign(pj_job *head, const pj_process *process, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    bool alive;
    if (!job->root) {
        return pj_unsupported(err, "a job that was opened by name takes nobody in");
    }
    if (process->pid == getpid()) {
        if (pj_process_alive(process, &alive, err) < 0) {
            return -1;
        }
        return alive ? pj_cgroup_assign_self(head, err) : pj_fail(err, ESRCH, "write cgroup.procs");
    }
    for (const pj_deadline latest = pj_now() + LOCKED_MS * PJ_MS;;) {
        pthread_mutex_lock(job->lock);
        int result = assign_locked(job, process, err);
        pthread_mutex_unlock(job->lock);
        if (result != 1 || pj_now() >= latest) {
            return result == 1 ? -1 : result;
        }
        poll(NULL, 0, 1);
    }
}
