#define _GNU_SOURCE 1
#include "linux/root.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/guard.h"
#include "linux/pidref.h"
#include "linux/procfs.h"

enum { SWEPT_MOST = 16, SWEEP_MS = 100 };

/* ---- names ---- */

static int pid_namespace(uint64_t *out, pj_error *err) {
    struct stat stat_;
    if (stat("/proc/self/ns/pid", &stat_) < 0) {
        return pj_fail(err, errno, "stat /proc/self/ns/pid");
    }
    *out = stat_.st_ino;
    return 0;
}

int pj_root_owner_lives(const char *name) {
    pj_root_name found;
    uint64_t own;
    pj_stat stat;
    pj_error err;
    if (!pj_parse_root_name(name, &found) || pid_namespace(&own, &err) < 0 || found.namespace != own) {
        return -1;
    }
    if (pj_procfs_stat((pj_pid)found.pid, &stat, &err) < 0) {
        return err.code == ESRCH ? 0 : -1;
    }
    return stat.start == found.start && !pj_stat_dead(&stat);
}

typedef struct {
    int count;
} swept;

/* Does what a guard would have done: somebody killed it together with its owner, or it ended with its PID namespace. */
static int sweep_orphan(pj_dir *dir, unsigned depth, void *arg) {
    (void)depth;
    swept *all = arg;
    const char *name = pj_dir_name(dir);
    pj_root_name unused;
    if (!pj_parse_root_name(name, &unused) || pj_root_owner_lives(name) == 1) {
        return 0;
    }
    int fd = pj_dir_open(dir, NULL, O_RDONLY | O_DIRECTORY);
    int lock = fd < 0 ? -1 : pj_sweep_trylock(fd);
    if (lock >= 0) {
        pj_sweep(fd, SWEEP_MS / SWEPT_MOST);
        close(lock);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ++all->count >= SWEPT_MOST;
}

/* ---- the root ---- */

/* Others may pass, to files of a group of their own in it, but not open it: its lock is not theirs to take. */
static const mode_t passable = 0711;

void pj_root_unref(pj_root *root) {
    if (!root || atomic_fetch_sub(&root->refs, 1) != 1) {
        return;
    }
    pj_root_cool(root);
    for (pj_lingerer *next, *at = root->lingering; at; at = next) {
        next = at->next;
        free(at);
    }
    if (root->fd >= 0) {
        close(root->fd);
    }
    if (root->home >= 0) {
        close(root->home);
    }
    pj_root_spend(root);
    if (root->guarded) {
        pj_process_close(&root->guard);
    }
    free(root->path);
    free(root->where);
    free(root->guard_path);
    free(root);
}

static char *join(const char *directory, const char *name) {
    size_t length = strlen(directory), size = length + strlen(name) + 2;
    char *path = malloc(size);
    if (path) {
        snprintf(path, size, "%s%s%s", directory, length == 1 ? "" : "/", name);
    }
    return path;
}

/* More than one root of this process: another interpreter's, or one of before an execve(). */
static int make_directory(pj_root *root, pj_error *err) {
    pj_root_name name = {.pid = (uint64_t)getpid()};
    pj_stat self;
    if (pid_namespace(&name.namespace, err) < 0 || pj_procfs_stat(getpid(), &self, err) < 0) {
        return -1;
    }
    name.start = self.start;
    for (;; name.another++) {
        pj_format_root_name(&name, root->name);
        if (mkdirat(root->home, root->name, passable) == 0) {
            break;
        }
        if (errno != EEXIST) {
            return pj_fail(err, errno, "mkdir (cgroup)");
        }
    }
    root->fd = pj_above_standard(openat(root->home, root->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (root->fd < 0 || fchmod(root->fd, S_ISUID | passable) < 0) { /* whatever the umask says; stage.h */
        return pj_fail(err, errno, root->fd < 0 ? "open (cgroup)" : "fchmod (cgroup)");
    }
    /* Somebody who looks whether it is an orphan may hold the lock right now, and remove it: as create() then finds
     * out. */
    return flock(root->fd, LOCK_SH | LOCK_NB) == 0 || errno == EWOULDBLOCK ? 0 : pj_fail(err, errno, "flock (cgroup)");
}

static int fill(pj_root *root, pj_error *err) {
    char path[PJ_CGROUP_PATH], where[PJ_CGROUP_PATH];
    if (pj_cgroup_namespace(&root->namespace, err) < 0 || pj_cgroup_own(path, err) < 0) {
        return -1;
    }
    root->home = pj_cgroup_open(path, where, err);
    if (root->home < 0) {
        return -1;
    }
    pj_dir home;
    swept all = {0};
    pj_dir_set(&home, root->home, "");
    pj_dir_each(&home, 0, sweep_orphan, &all);
    if (make_directory(root, err) < 0) {
        return -1;
    }
    root->path = join(path, root->name);
    root->where = join(where, root->name);
    return root->path && root->where ? 0 : pj_fail(err, ENOMEM, "malloc");
}

int pj_root_get(pj_platform *platform, pj_root **out, pj_error *err) {
    if (platform->root && platform->root->user != geteuid()) { /* whose leaves another user may not enter */
        pj_root_retire(platform, platform->root);
        pj_root_forget(platform);
    }
    if (!platform->root) {
        pj_root *root = calloc(1, sizeof *root);
        if (!root) {
            return pj_fail(err, ENOMEM, "calloc");
        }
        atomic_init(&root->refs, 1);
        root->owner = getpid();
        root->user = geteuid();
        root->home = root->fd = root->reserve[0] = root->reserve[1] = -1;
        if (fill(root, err) < 0) {
            if (root->fd >= 0) {
                unlinkat(root->home, root->name, AT_REMOVEDIR);
            }
            pj_root_unref(root);
            return -1;
        }
        pj_root_reserve(root);
        platform->root = root;
    }
    *out = platform->root;
    return 0;
}

/* No duplicate: that would be no help where the whole system has run out of open files. Nothing is lost where it fails.
 */
void pj_root_reserve(pj_root *root) {
    for (int i = 0; i < PJ_RESERVE; i++) {
        if (root->reserve[i] < 0) {
            root->reserve[i] = openat(root->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        if (root->reserve[i] <= STDERR_FILENO) { /* as in warm() */
            pj_root_spend(root);
            return;
        }
    }
}

void pj_root_spend(pj_root *root) {
    for (int i = 0; i < PJ_RESERVE; i++) {
        if (root->reserve[i] >= 0) {
            close(root->reserve[i]);
            root->reserve[i] = -1;
        }
    }
}

void pj_root_forget(pj_platform *platform) {
    if (platform->root) {
        pj_root_unref(platform->root);
        platform->root = NULL;
    }
}

/* ---- empty leaves ---- */

void pj_root_cool(pj_root *root) {
    if (root->hot.number != 0) {
        close(root->hot.dir);
        close(root->hot.events);
        root->hot.number = 0;
    }
}

/* Nothing is lost where it fails. */
static void warm(pj_root *root, unsigned long number, uint64_t inode) {
    char name[48];
    snprintf(name, sizeof name, PJ_LEAF_PREFIX "%lu", number);
    int dir = openat(root->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int events = dir < 0 ? -1 : openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (dir > STDERR_FILENO && events > STDERR_FILENO) { /* else the caller has closed what is to be there */
        root->hot = (pj_hot_leaf){number, inode, dir, events};
        return;
    }
    if (dir >= 0) {
        close(dir);
    }
    if (events >= 0) {
        close(events);
    }
}

void pj_root_pool(pj_root *root, unsigned long number, uint64_t inode) {
    if (root->hot.number == 0) {
        warm(root, number, inode);
    }
    unsigned long *top = &root->pool[root->pooled++];
    *top = number;
    if (root->pooled > 1 && top[-1] == root->hot.number) {
        *top = top[-1];
        top[-1] = number;
    }
}

unsigned long pj_root_unpool(pj_root *root) {
    return root->pooled > 0 ? root->pool[--root->pooled] : 0;
}

/* ---- what waits to be removed ---- */

void pj_root_linger(pj_root *root, const char *path) {
    size_t size = strlen(path) + 1;
    pj_lingerer *waiting = malloc(sizeof *waiting + size);
    if (!waiting) {
        return; /* the guard, or the next owner's sweep, removes it in the end */
    }
    memcpy(waiting->path, path, size);
    waiting->next = root->lingering;
    root->lingering = waiting;
}

void pj_root_tidy(pj_root *root, unsigned most) {
    for (unsigned i = 0; i < most && root->lingering; i++) {
        pj_dir dir;
        pj_lingerer *first = root->lingering;
        root->lingering = first->next;
        if (!pj_dir_set(&dir, root->fd, first->path) || pj_dir_remove_unpopulated(&dir) == 0) {
            free(first);
            continue;
        }
        pj_lingerer **last = &root->lingering; /* to the end, so that all get their turn */
        while (*last) {
            last = &(*last)->next;
        }
        first->next = NULL;
        *last = first;
    }
}

void pj_root_retire(pj_platform *platform, pj_root *root) {
    if (root->jobs > 0 || root->guarded || platform->root != root) {
        return;
    }
    for (unsigned long number; (number = pj_root_unpool(root)) != 0;) {
        char name[32];
        snprintf(name, sizeof name, PJ_LEAF_PREFIX "%lu", number);
        unlinkat(root->fd, name, AT_REMOVEDIR);
    }
    pj_root_cool(root);
    pj_root_tidy(root, 1000);
    if (unlinkat(root->home, root->name, AT_REMOVEDIR) == 0) {
        pj_root_forget(platform);
    }
}

void pj_root_end(pj_platform *platform) {
    pj_dir dir;
    pj_error ignored;
    pj_pidfd_info info;
    pj_root *root = platform->root;
    if (root && root->owner == getpid() && pj_dir_set(&dir, root->home, root->name) &&
        pj_dir_remove_unpopulated(&dir) == 0 && root->guarded) {
        /* A program that closed all descriptors may have opened another pidfd by the number of this one. */
        if (!pj_pidfd_ask(&root->guard, PJ_INFO_PID, &info) || info.pid == (uint32_t)root->guard.pid) {
            pj_process_signal(&root->guard, SIGKILL, &ignored);
        }
    }
    pj_root_forget(platform);
}
