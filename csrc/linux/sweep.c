#define _GNU_SOURCE 1
#include "linux/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "linux/raw.h"
#include "linux/stage.h"

enum { PROC_MAGIC = 0x9fa0 }; /* statfs(2) */

static bool is_gone(int code) {
    return code == ENOENT || code == ENODEV; /* ENODEV: an open file of a directory that was removed */
}

static void close_keeping_errno(int fd) {
    int code = errno;
    close(fd);
    errno = code;
}

/* ---- directories by path ---- */

bool pj_dir_set(pj_dir *dir, int base, const char *path) {
    dir->base = base;
    dir->length = 1;
    memcpy(dir->text, ".", 2);
    return *path == '\0' || pj_dir_enter(dir, path);
}

bool pj_dir_enter(pj_dir *dir, const char *name) {
    size_t size = strlen(name);
    if (dir->length + 1 + size >= sizeof dir->text) {
        errno = ENAMETOOLONG;
        return false;
    }
    dir->text[dir->length] = '/';
    memcpy(dir->text + dir->length + 1, name, size + 1);
    dir->length += 1 + size;
    return true;
}

void pj_dir_leave(pj_dir *dir, size_t length) {
    dir->length = length;
    dir->text[length] = '\0';
}

int pj_dir_open(pj_dir *dir, const char *file, int flags) {
    size_t length = dir->length;
    dir->call = "openat (cgroup)";
    if (file && !pj_dir_enter(dir, file)) {
        return -1;
    }
    int fd = openat(dir->base, dir->text, flags | O_CLOEXEC);
    pj_dir_leave(dir, length);
    return fd;
}

ssize_t pj_dir_read(pj_dir *dir, const char *file, char *text, size_t room) {
    int fd = pj_dir_open(dir, file, O_RDONLY);
    if (fd < 0) {
        return -1;
    }
    dir->call = "read (cgroup)";
    ssize_t size = read(fd, text, room - 1);
    close_keeping_errno(fd);
    if (size >= 0) {
        text[size] = '\0';
    }
    return size;
}

int pj_dir_write(pj_dir *dir, const char *file, const char *text) {
    int fd = pj_dir_open(dir, file, O_WRONLY);
    if (fd < 0) {
        return -1;
    }
    dir->call = "write (cgroup)";
    ssize_t size = write(fd, text, strlen(text));
    close_keeping_errno(fd);
    return size < 0 ? -1 : 0;
}

typedef struct { /* getdents64(2) */
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
} entry;

enum { ENTRY_DIR = 4 }; /* DT_DIR; kernfs always tells the type */

static int visit_entries(pj_dir *dir, unsigned depth, const char *buffer, long size, pj_visit visit, void *arg) {
    const size_t length = dir->length;
    int result = 0;
    for (long at = 0; at < size && result == 0;) {
        const entry *here = (const entry *)(const void *)(buffer + at);
        at += here->size;
        if (here->type != ENTRY_DIR || strcmp(here->name, ".") == 0 || strcmp(here->name, "..") == 0) {
            continue;
        }
        result = pj_dir_enter(dir, here->name) ? visit(dir, depth + 1, arg) : -1;
        pj_dir_leave(dir, length);
    }
    return result;
}

int pj_dir_each(pj_dir *dir, unsigned depth, pj_visit visit, void *arg) {
    _Alignas(entry) char buffer[1024]; /* small: there is one per level, and a guard's stack is to stay small */
    if (depth >= PJ_DIR_DEPTH) {
        errno = ELOOP;
        return -1;
    }
    int fd = pj_dir_open(dir, NULL, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return is_gone(errno) ? 0 : -1;
    }
    int result = 0;
    long size;
    do {
        dir->call = "getdents64 (cgroup)";
        size = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
        if (size < 0) {
            result = is_gone(errno) ? 0 : -1;
        } else {
            result = visit_entries(dir, depth, buffer, size, visit, arg);
        }
    } while (size > 0 && result == 0);
    close_keeping_errno(fd);
    return result;
}

/* ---- what the control files say ---- */

int pj_dir_procs(pj_dir *dir, pj_take take, void *arg) {
    int fd = pj_dir_open(dir, "cgroup.procs", O_RDONLY);
    if (fd < 0) {
        return is_gone(errno) ? 0 : -1;
    }
    dir->call = "read (cgroup.procs)";
    int result = pj_read_ids(fd, take, arg);
    close_keeping_errno(fd);
    return result;
}

/* The value of `key` in cgroup.events, where each line is a name, a blank and a digit. -1: not there. */
int pj_event(const char *text, const char *key) {
    const size_t size = strlen(key);
    for (const char *at = text; *at;) {
        if (strncmp(at, key, size) == 0 && at[size] == ' ') {
            return at[size + 1] != '0';
        }
        while (*at && *at++ != '\n') {
        }
    }
    return -1;
}

static int event(pj_dir *dir, const char *key) {
    char text[256];
    if (pj_dir_read(dir, "cgroup.events", text, sizeof text) < 0) {
        return is_gone(errno) ? 0 : -1;
    }
    int value = pj_event(text, key);
    if (value < 0) {
        errno = EPROTO;
    }
    return value;
}

int pj_dir_populated(pj_dir *dir) {
    return event(dir, "populated");
}

/* ---- removal ---- */

const char *pj_dir_name(const pj_dir *dir) {
    const char *name = dir->text + dir->length;
    while (name > dir->text && name[-1] != '/') {
        name--;
    }
    return name;
}

static int note_name(pj_dir *dir, unsigned depth, void *arg) {
    (void)depth;
    const char *name = pj_dir_name(dir);
    memcpy(arg, name, strlen(name) + 1); /* at most NAME_MAX, 255 */
    return 1;
}

static void leave_last(pj_dir *dir) {
    pj_dir_leave(dir, (size_t)(pj_dir_name(dir) - dir->text) - 1);
}

/* No recursion: members may have nested groups as deep as they like. */
int pj_dir_remove(pj_dir *dir) {
    const size_t top = dir->length;
    for (;;) {
        char child[256];
        if (unlinkat(dir->base, dir->text, AT_REMOVEDIR) == 0 || is_gone(errno)) {
            if (dir->length == top) {
                return 0;
            }
            leave_last(dir);
            continue;
        }
        int code = errno; /* EBUSY for processes and for groups in it alike */
        int found = code == EBUSY || code == ENOTEMPTY ? pj_dir_each(dir, 0, note_name, child) : 0;
        if (found != 1 || !pj_dir_enter(dir, child)) {
            pj_dir_leave(dir, top);
            if (found >= 0) {
                dir->call = "unlinkat (cgroup)";
                errno = code;
            }
            return -1;
        }
    }
}

int pj_dir_remove_unpopulated(pj_dir *dir) {
    int populated = pj_dir_populated(dir);
    if (populated == 1) {
        errno = EBUSY;
    }
    return populated == 0 ? pj_dir_remove(dir) : -1;
}

/* ---- killing ---- */

enum { BATCH = 32 };

/* Pinned first, and seen in the group again after: whoever is in both is a member, or dead and beyond any signal. */
typedef struct {
    pj_dir *dir;
    int count;
    pid_t pids[BATCH];
    int handles[BATCH]; /* pidfds; -1: the kernel has none */
    bool seen[BATCH];
} batch;

static int see(pid_t pid, void *arg) {
    batch *all = arg;
    for (int i = 0; i < all->count; i++) {
        all->seen[i] |= all->pids[i] == pid;
    }
    return 0;
}

static int flush(batch *all) {
    int result = pj_dir_procs(all->dir, see, all);
    for (int i = 0; i < all->count; i++) {
        const int handle = all->handles[i];
        if (result == 0 && all->seen[i]) {
            if (handle >= 0) {
                syscall(PJ_SYS_PIDFD_SEND_SIGNAL, handle, SIGKILL, NULL, 0);
            } else {
                kill(all->pids[i], SIGKILL); /* below Linux 5.3; frozen, it cannot have ended by itself */
            }
        }
        if (handle >= 0) {
            close_keeping_errno(handle);
        }
    }
    all->count = 0;
    return result;
}

static int pin(pid_t pid, void *arg) {
    batch *all = arg;
    if (all->count == BATCH && flush(all) < 0) {
        return -1;
    }
    int handle = (int)syscall(PJ_SYS_PIDFD_OPEN, pid, 0);
    if (handle < 0 && errno == EMFILE && all->count > 0) {
        if (flush(all) < 0) {
            return -1;
        }
        handle = (int)syscall(PJ_SYS_PIDFD_OPEN, pid, 0);
    }
    if (handle < 0 && errno == ESRCH) {
        return 0;
    }
    if (handle < 0 && errno != ENOSYS && errno != EPERM) { /* a sandbox may answer either */
        all->dir->call = "pidfd_open";
        return -1;
    }
    all->pids[all->count] = pid;
    all->handles[all->count] = handle;
    all->seen[all->count++] = false;
    return 0;
}

int pj_dir_kill_listed(pj_dir *dir) {
    batch all = {.dir = dir};
    if (pj_dir_procs(dir, pin, &all) < 0 && errno != EOPNOTSUPP) { /* threaded: its processes are listed further up */
        int code = errno;
        const char *call = dir->call;
        flush(&all);
        dir->call = call;
        errno = code;
        return -1;
    }
    return all.count > 0 ? flush(&all) : 0;
}

static int kill_below(pj_dir *dir, unsigned depth, void *arg) {
    struct stat stat;
    dir->call = "fstatat (cgroup)";
    if (fstatat(dir->base, dir->text, &stat, 0) < 0) {
        return is_gone(errno) ? 0 : -1;
    }
    if (pj_dir_is_stage(dir, stat.st_mode)) {
        return 0;
    }
    return pj_dir_kill_listed(dir) < 0 ? -1 : pj_dir_each(dir, depth, kill_below, arg);
}

int pj_dir_kill_seen(pj_dir *dir) {
    return kill_below(dir, 0, NULL);
}

static void wait_frozen(pj_dir *dir) {
    for (int waited = 0; waited < 100 && event(dir, "frozen") == 0; waited += 2) {
        poll(NULL, 0, 2);
    }
}

int pj_dir_kill_each(pj_dir *dir) {
    bool freezing = pj_dir_write(dir, "cgroup.freeze", "1") == 0; /* Linux 5.2 */
    if (freezing) {
        wait_frozen(dir);
    }
    int result = pj_dir_kill_seen(dir);
    int code = errno;
    if (freezing) {
        pj_dir_write(dir, "cgroup.freeze", "0");
    }
    errno = code;
    return result;
}

int pj_dir_kill(pj_dir *dir, bool *atomic) {
    if (pj_dir_write(dir, "cgroup.kill", "1") == 0) {
        if (atomic) {
            *atomic = true;
        }
        return 0;
    }
    /* EOPNOTSUPP: a threaded group. EACCES: who made it has given up the rights that it takes, maybe not those over its
     * members. */
    if (errno != ENOENT && errno != EOPNOTSUPP && errno != EACCES) {
        return is_gone(errno) ? 0 : -1;
    }
    if (atomic) {
        *atomic = false;
    }
    return pj_dir_kill_each(dir); /* gone: nobody is found */
}

/* ---- the owner, and its root ---- */

/* 1: alive, 0: dead, -1: a refused look. `fd`: its /proc/PID/stat. */
static int owner_alive(int fd) {
    char text[1024];
    pj_stat stat;
    ssize_t size = lseek(fd, 0, SEEK_SET) < 0 ? -1 : read(fd, text, sizeof text);
    if (size < 0) {
        return errno == ESRCH ? 0 : -1;
    }
    if (!pj_parse_stat(text, (size_t)size, &stat)) {
        errno = EPROTO;
        return -1;
    }
    return !pj_stat_dead(&stat);
}

int pj_owner_wait(int owner) {
    struct statfs system;
    if (fstatfs(owner, &system) < 0) {
        return -1;
    }
    if ((unsigned long)system.f_type == PROC_MAGIC) {
        int alive;
        while ((alive = owner_alive(owner)) == 1) {
            poll(NULL, 0, 20);
        }
        return alive;
    }
    struct pollfd ready = {.fd = owner, .events = POLLIN};
    while (poll(&ready, 1, -1) < 0) {
        if (errno != EINTR && errno != EAGAIN && errno != ENOMEM) {
            return -1;
        }
    }
    errno = EBADF;
    return ready.revents & POLLNVAL ? -1 : 0;
}

static int lock(int root, int how) {
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, how | LOCK_NB) < 0) {
        close_keeping_errno(fd);
        return -1;
    }
    return fd;
}

int pj_sweep_trylock(int root) {
    return lock(root, LOCK_EX);
}

int pj_sweep_lock(int root) {
    int fd = lock(root, LOCK_SH);
    for (int tries = 0; fd < 0 && (errno == EWOULDBLOCK || errno == EINTR) && tries < 500; tries++) {
        poll(NULL, 0, 2);
        fd = lock(root, LOCK_SH);
    }
    return fd;
}

/* Counts unreleased leaves in *arg. A refusal at one must not keep us from the others, so it is counted as one. */
static int sweep_leaf(pj_dir *leaf, unsigned depth, void *arg) {
    unsigned *left = arg;
    struct stat stat;
    if (depth > 1 && memcmp(pj_dir_name(leaf), PJ_LEAF_PREFIX, sizeof PJ_LEAF_PREFIX - 1) != 0) {
        return 0;
    }
    if (fstatat(leaf->base, leaf->text, &stat, 0) < 0) {
        *left += !is_gone(errno);
        return 0;
    }
    if (pj_dir_remove_unpopulated(leaf) == 0) {
        return 0;
    }
    if (stat.st_mode & S_ISVTX) {
        if (pj_dir_each(leaf, depth, sweep_leaf, arg) < 0) {
            ++*left;
        }
        return 0;
    }
    ++*left;
    int seal = pj_leaf_seal(leaf);
    if (seal < 0) { /* a member is just assigning: it is among those who are killed */
        pj_dir_kill_seen(leaf);
        return 0;
    }
    pj_dir_kill(leaf, NULL);
    pj_leaf_unlock(seal);
    return 0;
}

static int remove_if_same(pj_dir *dir, unsigned depth, void *arg) {
    (void)depth;
    const struct stat *wanted = arg;
    struct stat stat;
    if (fstatat(dir->base, dir->text, &stat, 0) < 0 || stat.st_ino != wanted->st_ino) {
        return 0;
    }
    unlinkat(dir->base, dir->text, AT_REMOVEDIR); /* EBUSY: it holds released leaves */
    return 1;
}

static void remove_root(int root) {
    pj_dir parent;
    struct stat stat;
    if (fstat(root, &stat) == 0 && pj_dir_set(&parent, root, "..")) {
        pj_dir_each(&parent, 0, remove_if_same, &stat);
    }
}

/* More than one pass: a program that was being started may join between our look and the removal. */
int pj_sweep(int root, int most) {
    pj_dir dir;
    pj_dir_set(&dir, root, "");
    for (int waited = 0, pause = 1;;) {
        unsigned left = 0;
        if (pj_dir_each(&dir, 0, sweep_leaf, &left) == 0 && left == 0) {
            remove_root(root);
            return 0;
        }
        if (most >= 0 && waited >= most) {
            return 1;
        }
        poll(NULL, 0, pause);
        waited += pause;
        pause = pause < 500 ? pause * 2 : 1000;
    }
}
