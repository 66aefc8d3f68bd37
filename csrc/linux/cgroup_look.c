/* Who is a member. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/cgroup.h"
#include "linux/pidref.h"
#include "linux/stage.h"

/* ---- listing ---- */

static int take(pid_t pid, void *arg) {
    if (pj_pids_add(arg, pid)) {
        return 0;
    }
    errno = ENOMEM;
    return -1;
}

/* A directory has as many links as it has directories in it, and two: most leaves need no second look. */
static int list_directory(pj_dir *dir, unsigned depth, void *arg) {
    struct stat stat;
    dir->call = "fstatat (cgroup)";
    if (fstatat(dir->base, dir->text, &stat, 0) < 0) {
        return errno == ENOENT || errno == ENODEV ? 0 : -1;
    }
    if (depth > 0 && pj_dir_is_stage(dir, stat.st_mode)) {
        return 0;
    }
    /* Threaded: the processes are listed further up, which must not be outside the job. */
    if (pj_dir_procs(dir, take, arg) < 0 && (errno != EOPNOTSUPP || depth == 0)) {
        return -1;
    }
    return stat.st_nlink == 2 ? 0 : pj_dir_each(dir, depth, list_directory, arg);
}

static int list(pj_cgroup_job *job, pj_pids *out, pj_error *err) {
    pj_dir dir;
    pj_pids found = {0};
    if (list_directory(pj_leaf(job, &dir), 0, &found) < 0) {
        int code = errno;
        pj_pids_free(&found);
        return pj_fail(err, code, dir.call);
    }
    pj_pids_sort(&found);
    *out = found;
    return 0;
}

int pj_cgroup_list(pj_job *head, pj_pids *out, pj_error *err) {
    pj_cgroup_watch((pj_cgroup_job *)head);
    return list((pj_cgroup_job *)head, out, err);
}

int pj_cgroup_others(pj_cgroup_job *job, pj_pids *out, pj_error *err) {
    if (list(job, out, err) < 0) {
        return -1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        if (out->items[i] != getpid()) {
            out->items[kept++] = out->items[i];
        }
    }
    out->count = kept;
    return 0;
}

/* ---- one process ---- */

/* The id of its group, without /proc. false: the kernel does not say. */
static bool group_id(const pj_process *process, uint64_t *out) {
    pj_pidfd_info info;
    if (sizeof(ino_t) < 8 || !pj_pidfd_ask(process, PJ_INFO_CGROUP, &info)) {
        return false;
    }
    *out = info.cgroup;
    return true;
}

static bool has_directories(const pj_cgroup_job *job) {
    pj_dir dir;
    struct stat stat;
    pj_leaf(job, &dir);
    return fstatat(dir.base, dir.text, &stat, 0) < 0 || stat.st_nlink != 2;
}

typedef enum { BESIDE, BELOW, IN_STAGE } place;

/* A stage that is gone by now was one, too: whoever was a member stays where he is. */
static place find_place(const pj_cgroup_job *job, const char *path, size_t size) {
    if (!pj_path_is_below(path, size, job->proc)) {
        return BESIDE;
    }
    pj_dir dir;
    pj_leaf(job, &dir);
    for (const char *at = path + strlen(job->proc), *end = path + size; at < end;) {
        char name[256] = "";
        struct stat stat;
        const char *start = at + 1;
        at = start < end ? memchr(start, '/', (size_t)(end - start)) : NULL;
        at = at ? at : end;
        if (at > start && (size_t)(at - start) < sizeof name) {
            memcpy(name, start, (size_t)(at - start));
        }
        if (!pj_dir_enter(&dir, name)) {
            return BELOW;
        }
        if (strncmp(name, PJ_STAGE_PREFIX, sizeof PJ_STAGE_PREFIX - 1) == 0 &&
            (fstatat(dir.base, dir.text, &stat, 0) < 0 || pj_dir_is_stage(&dir, stat.st_mode))) {
            return IN_STAGE;
        }
    }
    return BELOW;
}

static int look_in_proc(const pj_cgroup_job *job, const pj_process *process, place *out, pj_error *err) {
    char name[48], text[2048];
    const char *path;
    size_t size;
    snprintf(name, sizeof name, "/proc/%lld/cgroup", (long long)process->pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text);
    int code = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (length < 0) {
        return pj_fail(err, code, "read /proc/PID/cgroup");
    }
    if (pj_parse_cgroup(text, (size_t)length, &path, &size)) {
        *out = find_place(job, path, size);
        return 0;
    }
    char long_path[PJ_CGROUP_PATH]; /* a reading of any length */
    if (pj_cgroup_of(process->pid, long_path, err) < 0) {
        return -1;
    }
    *out = find_place(job, long_path, strlen(long_path));
    return 0;
}

/* A group stays where it was made, and its id is never given again: once seen below the job, or not, it always is. But
 * for a stage, which is to become part of it. */
static int look(pj_cgroup_job *job, const pj_process *process, bool *out, pj_error *err) {
    uint64_t id = 0, after;
    place found = BESIDE;
    bool known = group_id(process, &id);
    _Atomic uint64_t *below = &job->below[id % PJ_KNOWN_GROUPS], *beside = &job->beside[id % PJ_KNOWN_GROUPS];
    if (known && (id == job->inode || id == atomic_load(below))) {
        *out = true;
        return 0;
    }
    if (known && (id == atomic_load(beside) || !has_directories(job))) {
        *out = false;
        return 0;
    }
    if (look_in_proc(job, process, &found, err) < 0) {
        return -1;
    }
    *out = found == BELOW;
    if (known && found != IN_STAGE && group_id(process, &after) && after == id) {
        atomic_store(*out ? below : beside, id);
    }
    return 0;
}

/* It was pinned before; whoever lives after the look had its PID during the look. */
int pj_cgroup_contains(pj_job *head, const pj_process *process, bool *out, pj_error *err) {
    bool inside = false, alive;
    int looked = look((pj_cgroup_job *)head, process, &inside, err);
    if (looked == 0 && !inside) {
        *out = false;
        return 0;
    }
    pj_error refused;
    if (pj_process_alive(process, &alive, &refused) < 0) {
        *err = refused;
        return -1;
    }
    if (!alive) {
        *out = false;
        return 0;
    }
    if (looked == 0) {
        *out = inside;
    }
    return looked;
}

int pj_cgroup_caller(const pj_cgroup_job *job, bool *inside, char rest[PJ_CGROUP_PATH], pj_error *err) {
    char own[PJ_CGROUP_PATH];
    uint64_t namespace;
    if (pj_cgroup_namespace(&namespace, err) < 0 || pj_cgroup_own(own, err) < 0) {
        return -1;
    }
    if (namespace != job->namespace) { /* unshare(CLONE_NEWCGROUP) gave all groups other names */
        return pj_fail(err, EXDEV, "cgroup namespace of the job");
    }
    *inside = pj_path_is_below(own, strlen(own), job->proc);
    if (*inside) {
        size_t length = strlen(job->proc);
        memmove(rest, own + length, strlen(own + length) + 1);
    }
    return 0;
}

/* ---- signals ---- */

static int signal_member(pj_cgroup_job *job, pj_pid pid, int sig, pj_error *err) {
    pj_process process;
    bool inside;
    if (pj_process_open(pid, &process, err) < 0) {
        return err->code == ESRCH ? 0 : -1;
    }
    int result = pj_cgroup_contains(&job->head, &process, &inside, err);
    if (result == 0 && inside && pj_process_signal(&process, sig, err) < 0 && err->code != ESRCH &&
        err->code != EPERM) {
        result = -1;
    }
    pj_process_close(&process);
    return result;
}

/* Locked, so that nobody is hit who is in the job only until assign() has found out that it moved the wrong one. */
int pj_cgroup_signal(pj_job *head, int sig, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    pj_pids members = {0};
    pj_cgroup_watch(job);
    pthread_mutex_lock(job->lock);
    int result = pj_cgroup_others(job, &members, err);
    for (size_t i = 0; i < members.count; i++) { /* a refusal at one must not keep it from the others */
        pj_error refused;
        if (signal_member(job, members.items[i], sig, &refused) < 0 && result == 0) {
            *err = refused;
            result = -1;
        }
    }
    pthread_mutex_unlock(job->lock);
    pj_pids_free(&members);
    return result;
}

/* ---- waiting ---- */

enum { SETTLE_MS = 200 };

/* A process leaves its group shortly before it is dead to all others. Those seen in the job are waited for; whoever got
 * the number of one of them meanwhile is in another group. */
void pj_cgroup_settle(pj_cgroup_job *job, const pj_pids *seen) {
    const pj_deadline latest = pj_now() + SETTLE_MS * PJ_MS;
    for (size_t i = 0; i < seen->count; i++) {
        pj_error ignored;
        int fd = pj_pidfd_open(seen->items[i], &ignored);
        if (fd == -1) {
            return; /* no pidfd here */
        }
        struct pollfd ended = {.fd = fd, .events = POLLIN};
        if (fd >= 0 && poll(&ended, 1, 0) == 0) {
            bool inside = false;
            pj_process process = {.pid = seen->items[i], .handle = fd};
            if (look(job, &process, &inside, &ignored) == 0 && inside) {
                (void)poll(&ended, 1, pj_left_ms(latest, SETTLE_MS));
            }
        }
        if (fd >= 0) {
            close(fd);
        }
    }
}

/* Nobody notifies us of a change beside the caller. */
static int wait_beside(pj_cgroup_job *job, pj_deadline deadline, pj_error *err) {
    for (int pause = 1;; pause = pause < 16 ? pause * 2 : 20) {
        pj_pids others = {0};
        if (pj_cgroup_others(job, &others, err) < 0) {
            return -1;
        }
        bool empty = others.count == 0;
        pj_pids_free(&others);
        int left = pj_left_ms(deadline, pause);
        if (empty || left == 0) {
            return empty ? 0 : 1;
        }
        if (poll(NULL, 0, left) < 0) {
            return pj_fail(err, errno, "poll");
        }
    }
}

/* cgroup.events can be polled for a change since it was read; at times that is announced 10 ms late (the kernel limits
 * how often), and a killed group is empty sooner. */
static int wait_events(pj_dir *dir, pj_deadline deadline, pj_error *err) {
    int fd = pj_dir_open(dir, "cgroup.events", O_RDONLY);
    int result = -1;
    for (int pause = 1;; pause = pause < 32 ? pause * 2 : 50) {
        char text[256];
        struct pollfd change = {.fd = fd, .events = POLLPRI};
        if (fd >= 0 && pread(fd, text, sizeof text, 0) < 0 && errno != ENODEV) { /* from here on poll() sees a change */
            pj_fail(err, errno, "read cgroup.events");
            break;
        }
        int populated = pj_dir_populated(dir);
        if (populated < 0) {
            pj_fail(err, errno, "read cgroup.events");
            break;
        }
        int left = pj_left_ms(deadline, pause);
        if (populated == 0 || left == 0) {
            result = populated;
            break;
        }
        if (poll(&change, 1, left) < 0) {
            pj_fail(err, errno, "poll");
            break;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

static bool read_events(const pj_cgroup_job *job, char text[256]) {
    pj_dir dir;
    if (!job->hot) {
        return pj_dir_read(pj_leaf(job, &dir), "cgroup.events", text, 256) > 0;
    }
    ssize_t size = pread(job->hot->events, text, 255, 0);
    text[size < 0 ? 0 : size] = '\0';
    return size > 0;
}

bool pj_cgroup_empty(const pj_cgroup_job *job) {
    char text[256];
    return read_events(job, text) && pj_event(text, "populated") == 0;
}

bool pj_cgroup_idle(const pj_cgroup_job *job) {
    char text[256];
    return read_events(job, text) && pj_event(text, "populated") == 0 &&
           pj_event(text, "frozen") <= 0; /* not there: below Linux 5.2 nothing can be frozen */
}

int pj_cgroup_await(pj_cgroup_job *job, pj_deadline deadline, pj_error *err) {
    char rest[PJ_CGROUP_PATH];
    bool inside;
    pj_dir dir;
    if (pj_cgroup_caller(job, &inside, rest, err) < 0) {
        return -1;
    }
    return inside ? wait_beside(job, deadline, err) : wait_events(pj_leaf(job, &dir), deadline, err);
}

int pj_cgroup_wait(pj_job *head, pj_deadline deadline, pj_error *err) {
    pj_cgroup_job *job = (pj_cgroup_job *)head;
    pj_pids seen = {0};
    if (pj_cgroup_empty(job)) { /* the usual case: a program that has ended by itself */
        return 0;
    }
    pj_cgroup_watch(job);
    if (pj_cgroup_others(job, &seen, err) < 0) {
        return -1;
    }
    int result = seen.count == 0 ? 0 : pj_cgroup_await(job, deadline, err);
    if (result == 0) {
        pj_cgroup_settle(job, &seen);
    }
    pj_pids_free(&seen);
    return result;
}
