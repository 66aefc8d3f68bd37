#define _GNU_SOURCE 1
#include "linux/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/stage.h"
#include "posix/spawn.h"

/* ---- leaves ---- */

static const mode_t plain = 0755;

static char *below(const char *directory, const char *name) {
    size_t size = strlen(directory) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) {
        snprintf(path, size, "%s%s%s", directory, *directory ? "/" : "", name);
    }
    return path;
}

/* One that was made before and is as new. The guard leaves it alone as long as we live. */
static bool take_pooled(pj_cgroup_job *job, char name[48]) {
    pj_root *root = job->root;
    struct stat stat;
    while (!job->head.keep && (job->number = pj_root_unpool(root)) != 0) {
        bool hot = job->number == root->hot.number;
        snprintf(name, 48, PJ_LEAF_PREFIX "%lu", job->number);
        if (fstatat(root->fd, name, &stat, 0) == 0) {
            job->inode = (uint64_t)stat.st_ino;
            if (hot && job->inode == root->hot.inode) {
                job->hot = &root->hot;
            }
        }
        if (hot && !job->hot) { /* somebody removed it */
            pj_root_cool(root);
        }
        if (job->inode != 0) {
            return true;
        }
    }
    return false;
}

static int make_leaf(pj_cgroup_job *job, pj_error *err) {
    pj_root *root = job->root;
    char name[48];
    if (!take_pooled(job, name)) {
        job->number = ++root->made;
        snprintf(name, sizeof name, PJ_LEAF_PREFIX "%lu", job->number);
        mode_t mode = plain | (job->head.keep ? S_ISVTX : 0); /* before anybody is in it; whatever the umask says */
        if (mkdirat(root->fd, name, plain) < 0) {
            return pj_fail(err, errno, "mkdir (cgroup)");
        }
        if (fchmodat(root->fd, name, mode, 0) < 0) {
            int code = errno;
            unlinkat(root->fd, name, AT_REMOVEDIR);
            return pj_fail(err, code, "fchmodat (cgroup)");
        }
    }
    job->path = below("", name);
    return 0;
}

static int make_nested(pj_cgroup_job *job, const pj_cgroup_job *parent, pj_error *err) {
    pj_dir dir;
    if (!parent->path) {
        return pj_fail(err, ENOENT, "mkdir (cgroup)"); /* it was closed */
    }
    if (pj_cgroup_make(job, pj_leaf(parent, &dir), PJ_LEAF_PREFIX, err) < 0) {
        return -1;
    }
    job->path = below(parent->path, pj_dir_name(&dir));
    if (!job->path) {
        (void)pj_dir_remove(&dir);
    }
    return 0;
}

/* After make_…(): what there is to know about it. */
static int describe(pj_cgroup_job *job, pj_error *err) {
    struct stat stat;
    job->proc = job->path ? below(job->root->path, job->path) : NULL;
    if (!job->proc) {
        return pj_fail(err, ENOMEM, "malloc");
    }
    if (job->inode != 0) { /* from the pool */
        return 0;
    }
    if (fstatat(job->base, job->path, &stat, 0) < 0) {
        return pj_fail(err, errno, "fstatat (cgroup)");
    }
    job->inode = (uint64_t)stat.st_ino;
    return 0;
}

/* Exactly as it was made, and never killed. */
static bool is_as_new(const pj_cgroup_job *job) {
    pj_dir dir;
    struct stat stat;
    pj_leaf(job, &dir);
    return job->number != 0 && !job->head.keep && !job->name && !atomic_load(&job->killed) && !job->head.holds_caller &&
           (job->hot ? fstat(job->hot->dir, &stat) : fstatat(dir.base, dir.text, &stat, 0)) == 0 &&
           stat.st_mode == (S_IFDIR | plain) && stat.st_uid == geteuid() && stat.st_nlink == 2 && pj_cgroup_idle(job);
}

/* true: it is gone, or nobody is in it. */
static bool drop_leaf(pj_cgroup_job *job) {
    pj_dir dir;
    pj_root *root = job->root;
    if (root->pooled < PJ_POOL && is_as_new(job)) {
        pj_root_pool(root, job->number, job->inode);
        return true;
    }
    if (job->hot) {
        pj_root_cool(root);
        job->hot = NULL;
    }
    pj_leaf(job, &dir);
    for (int tries = 0; tries < 10 && pj_dir_populated(&dir) == 0; tries++) {
        if (pj_dir_remove_unpopulated(&dir) == 0) {
            return true;
        }
        poll(NULL, 0, 1); /* a kernel may say EBUSY for a moment after the last one has ended */
    }
    pj_root_linger(root, job->path);
    return false;
}

/* ---- the life of a job ---- */

static void free_fields(pj_cgroup_job *job) {
    free(job->path);
    free(job->proc);
    free(job->name);
    job->path = job->proc = job->name = NULL;
    if (job->former >= 0) {
        close(job->former);
    }
    if (job->root) {
        pj_root_unref(job->root);
    } else if (job->base >= 0) {
        close(job->base);
    }
}

static pj_cgroup_job *new_job(pj_job *parent, bool keep) {
    pj_cgroup_job *job = calloc(1, sizeof *job);
    if (job) {
        pj_job_init(&job->head, &pj_cgroup_backend, parent, keep);
        atomic_init(&job->killed, false);
        job->base = job->former = -1;
    }
    return job;
}

static int name_job(pj_cgroup_job *job, const char *name, pj_error *err) {
    job->name = strdup(name);
    if (!job->name) {
        return pj_fail(err, ENOMEM, "strdup");
    }
    return pj_name_claim(name, job, err);
}

/* An empty root may be removed by an administrator, or by who took it for an orphan: once, another one is made. */
static int make(pj_cgroup_job *job, const pj_create *how, pj_error *err) {
    pj_cgroup_job *parent = (pj_cgroup_job *)how->parent;
    pj_root *root = parent ? parent->root : NULL;
    if (!root && pj_root_get(how->platform, &root, err) < 0) {
        return -1;
    }
    atomic_fetch_add(&root->refs, 1);
    job->root = root;
    job->base = root->fd;
    job->namespace = root->namespace;
    if (!root->proved && pj_cgroup_prove(root->home, root->name, err) < 0) {
        return -1;
    }
    root->proved = true;
    if (!how->keep && pj_root_guard(how->platform, root, how->guard, err) < 0) {
        return -1;
    }
    pj_root_tidy(root, 4);
    if ((parent ? make_nested(job, parent, err) : make_leaf(job, err)) < 0) {
        return -1;
    }
    if (describe(job, err) < 0) {
        return -1;
    }
    return how->name ? name_job(job, how->name, err) : 0;
}

static void unmake(pj_cgroup_job *job) {
    pj_dir dir;
    if (job->path) {
        (void)pj_dir_remove(pj_leaf(job, &dir));
    }
    if (job->root) {
        pj_root_retire(job->platform, job->root);
    }
    free_fields(job);
    pj_job_unref(&job->head);
}

static bool root_is_gone(const pj_root *root) {
    return root && faccessat(root->home, root->name, F_OK, 0) < 0 && errno == ENOENT;
}

static int create(const pj_create *how, pj_job **out, pj_error *err) {
    if (how->parent && !((pj_cgroup_job *)how->parent)->root) {
        return pj_unsupported(err, "a job that was opened by name takes nobody in");
    }
    int result = -1;
    pthread_mutex_lock(&how->platform->lock);
    for (int tries = 0; tries < 2 && result < 0; tries++) {
        pj_cgroup_job *job = new_job(how->parent, how->keep);
        if (!job) {
            result = pj_fail(err, ENOMEM, "calloc");
            break;
        }
        job->platform = how->platform;
        job->lock = &how->platform->lock;
        result = make(job, how, err);
        if (result == 0) {
            job->root->jobs++;
            *out = &job->head;
            break;
        }
        bool removed = !how->parent && root_is_gone(how->platform->root);
        unmake(job);
        if (!removed || tries > 0) {
            break;
        }
        pj_root_forget(how->platform);
    }
    pthread_mutex_unlock(&how->platform->lock);
    return result;
}

static int open_named(const char *name, pj_job **out, pj_error *err) {
    pj_cgroup_job *job = new_job(NULL, true);
    if (!job) {
        return pj_fail(err, ENOMEM, "calloc");
    }
    job->path = calloc(1, 1);
    if (!job->path || pj_name_find(name, job, err) < 0) {
        if (!job->path) {
            pj_fail(err, ENOMEM, "calloc");
        }
        free_fields(job);
        pj_job_unref(&job->head);
        return -1;
    }
    pthread_mutex_init(&job->own_lock, NULL);
    job->lock = &job->own_lock;
    *out = &job->head;
    return 0;
}

static int spawn(pj_job *head, const pj_spec *spec, pj_child *out, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    if (!job->root) {
        return pj_unsupported(err, "a job that was opened by name takes nobody in");
    }
    pj_dir dir;
    int leaf = job->hot ? job->hot->dir : pj_dir_open(pj_leaf(job, &dir), NULL, O_RDONLY | O_DIRECTORY);
    if (leaf < 0) {
        return pj_fail(err, errno, "open (cgroup)");
    }
    pj_place place = {.cgroup_fd = leaf, .terminal = -1};
    int result = pj_spawn(spec, &place, out, err);
    if (!job->hot) {
        close(leaf);
    }
    return result;
}

/* Async-signal-safe: in a forked child, beside whose thread none of the owner's others exist. */
static int join(pj_job *head, pj_error *err) {
    pj_dir dir;
    if (pj_dir_write(pj_leaf((pj_cgroup_job *)head, &dir), "cgroup.procs", "0") < 0) {
        return pj_fail(err, errno, "write cgroup.procs");
    }
    return 0;
}

/* ---- its guard ---- */

static unsigned watch(pj_job *head) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    if (!job->root) {
        return 0;
    }
    pthread_mutex_lock(job->lock);
    bool watched = pj_root_watch(job->platform, job->root);
    pthread_mutex_unlock(job->lock);
    return watched ? 0 : PJ_DIES_WITH_OWNER;
}

void pj_cgroup_watch(pj_cgroup_job *job) {
    if (job->root && pthread_mutex_trylock(job->lock) == 0) {
        (void)pj_root_watch(job->platform, job->root);
        pthread_mutex_unlock(job->lock);
    }
}

/* ---- its end ---- */

/* Nested jobs' members are this job's, so they stay, too; but other groups belong to members, and their guards. */
static int mark_released(pj_dir *dir, unsigned depth, void *arg) {
    const char *name = pj_dir_name(dir);
    bool ours = depth == 0 || strncmp(name, PJ_LEAF_PREFIX, sizeof PJ_LEAF_PREFIX - 1) == 0 ||
                strncmp(name, PJ_SELF_PREFIX, sizeof PJ_SELF_PREFIX - 1) == 0 ||
                strncmp(name, PJ_STAGE_PREFIX, sizeof PJ_STAGE_PREFIX - 1) == 0;
    struct stat stat;
    if (!ours || fstatat(dir->base, dir->text, &stat, 0) < 0 || pj_dir_is_stage(dir, stat.st_mode)) {
        return 0;
    }
    if (fchmodat(dir->base, dir->text, plain | S_ISVTX, 0) < 0 && errno != ENOENT) {
        return -1;
    }
    return pj_dir_each(dir, depth, mark_released, arg);
}

static int release(pj_job *head, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    pj_dir dir;
    if (!job->root) { /* an opener owns nothing */
        return 0;
    }
    pthread_mutex_lock(job->lock);
    int result = 0;
    if (mark_released(pj_leaf(job, &dir), 0, NULL) < 0) {
        result = pj_fail(err, errno, "fchmodat (cgroup)");
    } else {
        head->keep = true;
    }
    pthread_mutex_unlock(job->lock);
    return result;
}

static void close_job(pj_job *head) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    if (!job->root) {
        pthread_mutex_destroy(&job->own_lock);
        free_fields(job);
        pj_job_unref(head);
        return;
    }
    pthread_mutex_t *lock = job->lock;
    pthread_mutex_lock(lock);
    pj_cgroup_return(job);
    bool empty = drop_leaf(job);
    if (job->name) {
        pj_name_drop(job->name, job, empty);
    }
    job->root->jobs--;
    pj_root_retire(job->platform, job->root);
    free_fields(job);
    pthread_mutex_unlock(lock);
    pj_job_unref(head);
}

static void abandon(pj_job *head) {
    free_fields((pj_cgroup_job *)head);
    pj_job_unref(head);
}

const pj_backend pj_cgroup_backend = {
    .name = "cgroup",
    .probe = pj_cgroup_probe,
    .create = create,
    .open = open_named,
    .spawn = spawn,
    .join = join,
    .assign = pj_cgroup_assign,
    .assign_self = pj_cgroup_assign_self,
    .list = pj_cgroup_list,
    .contains = pj_cgroup_contains,
    .signal = pj_cgroup_signal,
    .kill = pj_cgroup_kill,
    .wait = pj_cgroup_wait,
    .watch = watch,
    .release = release,
    .close = close_job,
    .abandon = abandon,
};
