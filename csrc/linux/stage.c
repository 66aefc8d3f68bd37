#define _GNU_SOURCE 1
#include "linux/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

bool pj_dir_is_stage(const pj_dir *dir, mode_t mode) {
    return (mode & S_ISUID) && strncmp(pj_dir_name(dir), PJ_STAGE_PREFIX, sizeof PJ_STAGE_PREFIX - 1) == 0;
}

int pj_leaf_lock(pj_dir *leaf, int how) {
    int fd = pj_dir_open(leaf, "cgroup.kill", O_WRONLY);
    if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == EACCES)) {
        fd = pj_dir_open(leaf, NULL, O_RDONLY | O_DIRECTORY);
    }
    if (fd >= 0 && flock(fd, how | LOCK_NB) < 0) {
        int code = errno;
        close(fd);
        leaf->call = "flock (cgroup)";
        errno = code;
        return -1;
    }
    return fd;
}

void pj_leaf_unlock(int lock) {
    flock(lock, LOCK_UN);
    close(lock);
}

/* ---- what was left behind ---- */

enum { ROOTS = 16, TRIES = 100 };

typedef struct {
    pj_dir way;          /* from a stage, up and up */
    size_t roots[ROOTS]; /* how much of it leads out of a root, the innermost first */
    int count;
} way_out;

static void take_nearer(way_out *out) {
    pj_dir_leave(&out->way, out->roots[--out->count]);
}

/* Out of roots around the leaf that is to be killed, `depth` levels up; not of those in it. */
static int find_way_out(const pj_dir *stage, unsigned depth, way_out *out) {
    struct stat first, stat;
    out->way = *stage;
    out->count = 0;
    if (fstatat(stage->base, stage->text, &first, 0) < 0) {
        return -1;
    }
    for (unsigned up = 1; out->count < ROOTS && pj_dir_enter(&out->way, "..") &&
                          fstatat(out->way.base, out->way.text, &stat, 0) == 0 && stat.st_dev == first.st_dev;
         up++) {
        if (up > depth && (stat.st_mode & S_ISUID) && pj_dir_enter(&out->way, "..")) {
            out->roots[out->count++] = out->way.length;
            pj_dir_leave(&out->way, out->way.length - 3);
        }
    }
    if (out->count == 0) {
        errno = ENOENT;
        return -1;
    }
    take_nearer(out);
    return 0;
}

static int put_out(pid_t pid, void *arg) {
    way_out *out = arg;
    char text[16], *at = text + sizeof text - 1;
    *at = '\0';
    for (; pid > 0; pid /= 10) {
        *--at = (char)('0' + pid % 10);
    }
    while (pj_dir_write(&out->way, "cgroup.procs", at) < 0 && errno != ESRCH && out->count > 0) {
        take_nearer(out);
    }
    return 0;
}

static int empty(pj_dir *dir, unsigned depth, void *arg) {
    return pj_dir_procs(dir, put_out, arg) < 0 ? -1 : pj_dir_each(dir, depth, empty, arg);
}

/* Not inlined: empty_stages() recurs, and is to have a small frame. */
__attribute__((noinline)) static int empty_stage(pj_dir *stage, unsigned depth) {
    way_out out;
    if (find_way_out(stage, depth, &out) < 0) {
        return -1;
    }
    for (int tries = 0; tries < TRIES && pj_dir_populated(stage) == 1; tries++) { /* they may have children meanwhile */
        if (empty(stage, depth, &out) < 0) {
            return -1;
        }
        if (tries > 10) {
            poll(NULL, 0, 1);
        }
    }
    return pj_dir_remove(stage);
}

static int empty_stages(pj_dir *dir, unsigned depth, void *arg) {
    struct stat stat;
    dir->call = "fstatat (cgroup)";
    if (fstatat(dir->base, dir->text, &stat, 0) < 0) {
        return errno == ENOENT || errno == ENODEV ? 0 : -1;
    }
    if (depth == 0 || !pj_dir_is_stage(dir, stat.st_mode)) {
        return stat.st_nlink == 2 ? 0 : pj_dir_each(dir, depth, empty_stages, arg);
    }
    return empty_stage(dir, depth);
}

int pj_leaf_seal(pj_dir *leaf) {
    int lock = pj_leaf_lock(leaf, LOCK_EX);
    if (lock >= 0 && empty_stages(leaf, 0, NULL) < 0 && errno != ELOOP) { /* a member's own groups go so deep */
        pj_leaf_unlock(lock);
        return -1;
    }
    return lock;
}
