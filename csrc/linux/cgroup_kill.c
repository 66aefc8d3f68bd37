/* The end of all members but the caller.
 *
 * cgroup.kill takes whole groups. Where the caller is inside, only those are left to it in which he is not: he moves to
 * a new group (self-N) of his own, and all that lies beside his way down to it is killed. What another thread of his
 * starts meanwhile is born into the new one, and ended in the next round in the same manner. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/cgroup.h"
#include "linux/stage.h"

/* Thaws as well: a start into a frozen group is held in it with its new process, and would be with the next one. */
static int thaw(pj_dir *dir, unsigned depth, void *unused) {
    (void)pj_dir_write(dir, "cgroup.freeze", "0");
    return pj_dir_each(dir, depth, thaw, unused);
}

static int end_group(pj_dir *dir) {
    char events[256];
    bool frozen = pj_dir_read(dir, "cgroup.events", events, sizeof events) > 0 && pj_event(events, "frozen") == 1;
    int result = pj_dir_kill(dir, NULL);
    int code = errno;
    const char *call = dir->call;
    if (frozen) {
        (void)thaw(dir, 0, NULL);
    }
    dir->call = call;
    errno = code;
    return result;
}

/* ---- without the caller ---- */

/* 0: nobody is left, 1: somebody may be. *seen: who was there. */
static int attempt_whole(pj_cgroup_job *job, pj_dir *dir, pj_pids *seen, pj_error *err) {
    int populated = pj_dir_populated(dir);
    if (populated < 0) {
        return pj_fail(err, errno, dir->call);
    }
    if (populated == 0) { /* unkilled, the leaf can be used again */
        return 0;
    }
    pj_error unseen; /* then it is not waited for what pj_cgroup_settle() waits for */
    (void)pj_cgroup_others(job, seen, &unseen);
    atomic_store(&job->killed, true);
    if (end_group(dir) < 0) {
        return pj_fail(err, errno, dir->call);
    }
    return 1;
}

/* ---- with the caller ---- */

typedef struct {
    const char *kept; /* the part of his way that begins in this directory, or "" */
    int code;         /* errno of the first refusal, and the call */
    const char *call;
} beside;

static void note_refusal(beside *kill, const pj_dir *dir) {
    if (kill->code == 0) {
        kill->code = errno;
        kill->call = dir->call;
    }
}

static bool is_way(const char *way, const char *name) {
    size_t size = strlen(name);
    return *way == '/' && strncmp(way + 1, name, size) == 0 && (way[1 + size] == '/' || way[1 + size] == '\0');
}

static int kill_beside(pj_dir *dir, unsigned depth, void *arg) {
    (void)depth;
    beside *kill = arg;
    const char *name = pj_dir_name(dir);
    if (is_way(kill->kept, name)) {
        return 0;
    }
    int populated = pj_dir_populated(dir);
    if (populated != 0) {
        if (end_group(dir) < 0) {
            note_refusal(kill, dir);
        }
    } else if (strncmp(name, PJ_SELF_PREFIX, sizeof PJ_SELF_PREFIX - 1) == 0) {
        (void)pj_dir_remove(dir); /* where he was before; other directories may be somebody's job */
    }
    return 0;
}

/* Down the caller's way, whose last directory is his alone. */
static int kill_along(pj_dir *dir, const char *way, pj_error *err) {
    beside kill = {.kept = way};
    for (;;) {
        if (*kill.kept == '\0') {
            break;
        }
        if (pj_dir_kill_listed(dir) < 0) {
            note_refusal(&kill, dir);
        }
        if (pj_dir_each(dir, 0, kill_beside, &kill) < 0) {
            note_refusal(&kill, dir);
        }
        char name[256];
        size_t size = strcspn(kill.kept + 1, "/");
        memcpy(name, kill.kept + 1, size);
        name[size] = '\0';
        if (!pj_dir_enter(dir, name)) {
            return pj_fail(err, errno, "openat (cgroup)");
        }
        kill.kept += 1 + size;
    }
    return kill.code == 0 ? 0 : pj_fail(err, kill.code, kill.call);
}

static int count_others(pid_t pid, void *arg) {
    *(int *)arg += pid != getpid();
    return 0;
}

/* Whether the caller lives in a directory of the kind that is his alone, and nobody else does. */
static int is_alone(pj_dir *dir, bool *alone, pj_error *err) {
    int others = 0;
    struct stat stat;
    *alone = false;
    if (strncmp(pj_dir_name(dir), PJ_SELF_PREFIX, sizeof PJ_SELF_PREFIX - 1) != 0) {
        return 0;
    }
    if (pj_dir_procs(dir, count_others, &others) < 0) {
        return pj_fail(err, errno, dir->call);
    }
    if (fstatat(dir->base, dir->text, &stat, 0) < 0) {
        return pj_fail(err, errno, "fstatat (cgroup)");
    }
    *alone = others == 0 && stat.st_nlink == 2;
    return 0;
}

static int set_apart(pj_cgroup_job *job, const char *rest, pj_error *err) {
    pj_dir dir;
    bool alone;
    if (!pj_dir_set(&dir, job->base, job->path) || (*rest != '\0' && !pj_dir_enter(&dir, rest + 1))) {
        return pj_fail(err, ENAMETOOLONG, "openat (cgroup)");
    }
    if (is_alone(&dir, &alone, err) < 0) {
        return -1;
    }
    if (alone) {
        return 0;
    }
    const char *name = pj_dir_name(&dir);
    if (*rest != '\0' && strncmp(name, PJ_SELF_PREFIX, sizeof PJ_SELF_PREFIX - 1) == 0) {
        pj_dir_leave(&dir, (size_t)(name - dir.text) - 1);
    }
    return pj_cgroup_enter(job, &dir, err);
}

static int attempt_beside(pj_cgroup_job *job, const char *rest, pj_pids *seen, pj_error *err) {
    if (pj_cgroup_others(job, seen, err) < 0) {
        return -1;
    }
    if (seen->count == 0) {
        return 0;
    }
    pj_dir dir;
    bool inside;
    char way[PJ_CGROUP_PATH];
    if (set_apart(job, rest, err) < 0 || pj_cgroup_caller(job, &inside, way, err) < 0) {
        return -1;
    }
    if (!inside) {
        return pj_fail(err, EAGAIN, "moved out of the job by somebody else");
    }
    return kill_along(pj_leaf(job, &dir), way, err) < 0 ? -1 : 1;
}

/* ---- both ---- */

/* Another process is just assigning somebody to the job, or to one in it: it may be stopped, and may be a member. */
static int go_round(pj_dir *dir, bool inside, pj_error *err) {
    int code = errno;
    if (code != EWOULDBLOCK && code != EBUSY) {
        return code == ENOENT ? 0 : pj_fail(err, code, dir->call);
    }
    if (!inside) {
        (void)pj_dir_kill_seen(dir);
    }
    return 1;
}

static int attempt_once(pj_cgroup_job *job, pj_pids *seen, pj_error *err) {
    char rest[PJ_CGROUP_PATH];
    bool inside;
    pj_dir dir;
    if (pj_cgroup_caller(job, &inside, rest, err) < 0) {
        return -1;
    }
    int seal = pj_leaf_seal(pj_leaf(job, &dir));
    if (seal < 0) {
        return go_round(&dir, inside, err);
    }
    int result = inside ? attempt_beside(job, rest, seen, err) : attempt_whole(job, &dir, seen, err);
    pj_leaf_unlock(seal);
    return result;
}

static bool is_scarce(const pj_error *err) {
    return err->code == EMFILE || err->code == ENFILE;
}

/* Under the lock: between the look where the caller is and the kill no other thread may move him. Two descriptors at a
 * time are all that it takes to end a job without the caller in it. */
static int attempt(pj_cgroup_job *job, pj_pids *seen, pj_error *err) {
    pthread_mutex_lock(job->lock);
    int result = attempt_once(job, seen, err);
    if (result < 0 && is_scarce(err) && job->root) {
        pj_root_spend(job->root);
        result = attempt_once(job, seen, err);
        pj_root_reserve(job->root);
    }
    pthread_mutex_unlock(job->lock);
    return result;
}

/* Where there is no descriptor to wait with, only the next attempt tells. */
static int await(pj_cgroup_job *job, pj_deadline until, pj_error *err) {
    int left = pj_cgroup_await(job, until, err);
    if (left < 0 && is_scarce(err) && job->root) {
        poll(NULL, 0, pj_left_ms(until, 50));
        return 1;
    }
    return left;
}

int pj_cgroup_kill(pj_job *head, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    if (pj_cgroup_empty(job)) { /* the usual case: a program that has ended by itself */
        return 0;
    }
    /* Each round takes locks that the dying need, too; but what the caller starts meanwhile is only ended by the next.
     */
    for (int pause = 20;; pause = pause < 40 ? pause * 2 : 50) {
        pj_pids seen = {0};
        const pj_deadline soon = pj_now() + pause * PJ_MS;
        int left = attempt(job, &seen, err);
        pj_cgroup_watch(job);
        if (left == 1) {
            left = await(job, pj_earlier(deadline, soon), err);
        }
        if (left == 0) {
            pj_cgroup_settle(job, &seen);
        }
        pj_pids_free(&seen);
        if (left <= 0) {
            return left;
        }
        if (soon >= deadline) {
            return pj_cgroup_others(job, survivors, err) < 0 ? -1 : 1;
        }
    }
}
