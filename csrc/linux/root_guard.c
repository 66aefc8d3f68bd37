/* The guard of a root, seen from its owner. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "linux/guard.h"
#include "linux/pidref.h"
#include "linux/root.h"

enum { READY_MS = 5000 };

/* A call's name that contains the guard's path, kept for as long as the platform. */
static const char *name_call(pj_platform *platform, const char *guard) {
    static const char format[] = "execve %s";
    size_t size = sizeof format + strlen(guard);
    for (pj_text *at = platform->texts; at; at = at->next) {
        if (strcmp(at->text + sizeof "execve " - 1, guard) == 0) {
            return at->text;
        }
    }
    pj_text *made = malloc(sizeof *made + size);
    if (!made) {
        return "execve (pyjob-guard)";
    }
    snprintf(made->text, size, format, guard);
    made->next = platform->texts;
    platform->texts = made;
    return made->text;
}

/* What names this process for ever: a pidfd, or where there is none its /proc/PID/stat. */
static int open_self(pj_error *err) {
    int fd = pj_pidfd_open(getpid(), err);
    if (fd == -1) {
        fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            pj_fail(err, errno, "open /proc/self/stat");
        }
    }
    return fd < 0 ? -1 : fd;
}

static void put_number(char text[16], int number) {
    snprintf(text, 16, "%d", number);
}

static void sort3(int *a) {
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            if (a[j] > a[j + 1]) {
                int greater = a[j];
                a[j] = a[j + 1];
                a[j + 1] = greater;
            }
        }
    }
}

/* It has the lock when it writes its byte: from there on nobody takes the root for an orphan. */
static int wait_ready(int fd, pj_error *err) {
    pj_deadline deadline = pj_now() + READY_MS * PJ_MS;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        char byte;
        int count = poll(&ready, 1, pj_left_ms(deadline, READY_MS));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return pj_fail(err, count < 0 ? errno : ETIMEDOUT, "poll (pyjob-guard)");
        }
        ssize_t size = read(fd, &byte, 1);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return pj_fail(err, errno, "read (pyjob-guard)");
        }
        return size == 1 ? 0 : pj_fail(err, ECHILD, "pyjob-guard ended at once");
    }
}

/* A caller that is in a job started the guard there, where it would be a member. */
static void move_home(const pj_root *root, const pj_process *guard) {
    char text[16];
    pj_dir home;
    put_number(text, (int)guard->pid);
    pj_dir_set(&home, root->home, "");
    (void)pj_dir_write(&home, "cgroup.procs", text);
}

static int start(pj_root *root, const char *path, int owner, const int ready[2], pj_process *guard, pj_error *err) {
    char words[3][16];
    const int passed[] = {owner, root->fd, ready[1]};
    int inherit[] = {owner, root->fd, ready[1], -1};
    for (int i = 0; i < 3; i++) {
        put_number(words[i], passed[i]);
    }
    sort3(inherit);
    char *argv[] = {"pyjob-guard", "cgroup", words[0], words[1], words[2], NULL};
    return pj_guard_start(path, argv, inherit, guard, err);
}

static int replace(pj_platform *platform, pj_root *root, const char *path, pj_error *err) {
    pj_process guard;
    int ready[2] = {-1, -1}, result = -1;
    int owner = open_self(err);
    if (owner < 0) {
        return -1;
    }
    if (pipe2(ready, O_CLOEXEC) < 0) {
        pj_fail(err, errno, "pipe2");
        goto done;
    }
    if (start(root, path, owner, ready, &guard, err) < 0) {
        if (strncmp(err->call, "execve", 6) == 0) {
            err->call = name_call(platform, path);
        }
        goto done;
    }
    close(ready[1]);
    ready[1] = -1;
    result = wait_ready(ready[0], err);
    if (result < 0) {
        pj_error ignored;
        pj_process_signal(&guard, 9, &ignored);
        pj_process_close(&guard);
        goto done;
    }
    if (root->held > 0) {
        move_home(root, &guard);
    }
    if (root->guarded) {
        pj_process_close(&root->guard);
    }
    root->guard = guard;
    root->guarded = true;
    if (!root->guard_path) {
        root->guard_path = strdup(path);
    }
done:
    for (int i = 0; i < 2; i++) {
        if (ready[i] >= 0) {
            close(ready[i]);
        }
    }
    close(owner);
    return result;
}

int pj_root_guard(pj_platform *platform, pj_root *root, const char *path, pj_error *err) {
    if (root->guarded) {
        bool alive;
        if (pj_process_alive(&root->guard, &alive, err) < 0) {
            return -1;
        }
        if (alive) {
            return 0;
        }
    }
    if (!path) {
        return pj_fail(err, ENOENT, "execve (pyjob-guard)");
    }
    return replace(platform, root, path, err);
}

bool pj_root_watch(pj_platform *platform, pj_root *root) {
    pj_error refused;
    int result = 0;
    do {
        result = root->guarded ? pj_root_guard(platform, root, root->guard_path, &refused) : 0;
    } while (result < 0 && refused.code == EINTR);
    return result == 0;
}
