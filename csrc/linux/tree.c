#include "linux/tree.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "linux/hunt.h"
#include "linux/pidref.h"
#include "linux/view.h"

/* The members of one look, only those with the parent `of`, or all for 0. */
static int collect(const pj_view *view, pj_pid of, pj_pids *out, pj_error *err) {
    pj_pids found = {0};
    for (size_t at = 0; at < view->count; at++) {
        const pj_stat *member = pj_view_member(view, at);
        if (member && (of == 0 || member->parent == of) && !pj_pids_add(&found, member->pid)) {
            pj_pids_free(&found);
            return pj_fail(err, ENOMEM, "realloc");
        }
    }
    pj_pids_sort(&found);
    pj_pids_free(out);
    *out = found;
    return 0;
}

static int list(const pj_forest *forest, pj_pid of, pj_pids *out, pj_error *err) {
    pj_view view;
    int status = pj_view_open(&view, forest, NULL, err);
    if (status == 0) {
        status = pj_view_look(&view, err);
    }
    if (status == 0) {
        status = pj_view_settle(&view, err);
    }
    if (status == 0) {
        status = collect(&view, of, out, err);
    }
    pj_view_close(&view);
    return status;
}

int pj_forest_list(const pj_forest *forest, pj_pids *out, pj_error *err) {
    return list(forest, 0, out, err);
}

/* The parent, pinned: pinned first, then asked whether it is the parent still. Nobody has pid 0. false: the kernel
 * (below 6.13) does not say, or no descriptor can be had. */
static bool pin_parent(const pj_process *child, pj_process *out) {
    pj_pidfd_info before, after;
    pj_error unused;
    while (pj_pidfd_ask(child, PJ_INFO_PID, &before)) {
        *out = (pj_process){.pid = before.ppid, .handle = -1};
        if (before.ppid == 0) {
            return true;
        }
        out->handle = pj_pidfd_open(before.ppid, &unused);
        if (out->handle < 0) {
            return false;
        }
        if (pj_pidfd_ask(child, PJ_INFO_PID, &after) && after.ppid == before.ppid) {
            return true;
        }
        pj_process_close(out); /* orphaned meanwhile, or dead: asked again */
    }
    return false;
}

/* From a pinned process up to a root, without /proc. 1: *out tells; 0: not to be decided in this way. */
static int climb(const pj_forest *forest, const pj_process *process, const pj_hold *known, bool *out, pj_error *err) {
    pj_process at = *process, above;
    bool root, spared, foreign, member;
    int result = pj_is_among(forest->spared, forest->spared_count, at.pid, &spared, err);
    for (bool self = true; result == 0; self = false) {
        if (pj_is_among(forest->roots, forest->root_count, at.pid, &root, err) < 0 ||
            pj_is_among(forest->foreign, forest->foreign_count, at.pid, &foreign, err) < 0 ||
            pj_hold_knows(known, at.pid, &member, err) < 0) {
            result = -1;
        } else if (root || spared || foreign || member || at.pid <= 1) {
            *out = !spared && (member || (root && (!self || forest->with_roots)));
            result = 1;
        }
        if (result != 0 || !pin_parent(&at, &above)) {
            break;
        }
        if (!self) {
            pj_process_close(&at);
        }
        at = above;
    }
    if (at.handle != process->handle) {
        pj_process_close(&at);
    }
    return result;
}

/* A member that was verified while it was pinned, after `then`. It needs no pin from here on, unless it is very young.
 */
static int learn(pj_hold *known, const pj_process *member, uint64_t then, pj_error *err) {
    pj_held held = {.process = {.pid = member->pid, .handle = -1, .created = member->created}};
    bool told = member->created != 0 && member->created < then;
    return !told || pj_hold_add(known, &held) ? 0 : pj_fail(err, ENOMEM, "realloc");
}

static int contains(const pj_forest *forest, const pj_process *process, const pj_hold *known, bool *out,
                    pj_error *err) {
    pj_view view;
    pj_stat now;
    bool inside = false, alive = false;
    int climbed = climb(forest, process, known, &inside, err);
    if (climbed < 0 || (climbed == 1 && inside && pj_process_alive(process, &alive, err) < 0)) {
        return -1;
    }
    if (climbed == 1) {
        *out = inside && alive;
        return 0;
    }
    int status = pj_view_open(&view, forest, known, err);
    if (status == 0) {
        status = pj_view_verify(&view, process, out, &now, err);
    }
    pj_view_close(&view);
    return status;
}

int pj_forest_contains(const pj_forest *forest, const pj_process *process, pj_hold *known, bool *out, pj_error *err) {
    uint64_t then = known ? pj_procfs_now() : 0;
    bool inside = false;
    if (contains(forest, process, known, &inside, err) < 0 ||
        (known && inside && learn(known, process, then, err) < 0)) {
        return -1;
    }
    *out = inside;
    return 0;
}

/* Pins, verifies, signals. Whom we may not signal, and who is gone, is passed over. */
static int signal_one(const pj_view *view, pj_hold *known, const pj_stat *member, int sig, pj_error *err) {
    uint64_t then = pj_procfs_now();
    pj_process process = {.pid = member->pid, .handle = pj_pidfd_open(member->pid, err), .created = member->start};
    if (process.handle == -2) {
        return err->code == ESRCH ? 0 : -1;
    }
    bool is_member;
    pj_stat now;
    int status = pj_view_verify(view, &process, &is_member, &now, err);
    if (status == 0 && is_member) {
        status = learn(known, &process, then, err);
    }
    if (status == 0 && is_member && !now.kernel && pj_process_signal(&process, sig, err) < 0) {
        status = err->code == ESRCH || err->code == EPERM ? 0 : -1;
    }
    pj_process_close(&process);
    return status;
}

int pj_forest_signal(const pj_forest *forest, int sig, pj_error *err) {
    pj_view view;
    pj_hold known = {0};
    pj_pid self = getpid();
    int status = pj_view_open(&view, forest, &known, err);
    if (status == 0) {
        status = pj_view_look(&view, err);
    }
    for (size_t at = 0; status == 0 && at < view.count; at++) {
        const pj_stat *member = pj_view_member(&view, at);
        if (member && member->pid != self) {
            status = signal_one(&view, &known, member, sig, err);
        }
    }
    pj_hold_free(&known);
    pj_view_close(&view);
    return status;
}

int pj_forest_kill(const pj_forest *forest, pj_deadline deadline, pj_pids *killed, pj_pids *survivors, pj_error *err) {
    return pj_hunt(forest, deadline, NULL, killed, survivors, err);
}

int pj_children(pj_pid pid, bool recursive, pj_pids *out, pj_error *err) {
    pj_stat stat;
    if (pj_procfs_stat(pid, &stat, err) < 0) {
        return -1;
    }
    pj_process root = {.pid = pid, .handle = -1, .created = stat.start};
    pj_forest forest = {.roots = &root, .root_count = 1};
    return list(&forest, recursive ? 0 : pid, out, err);
}

typedef struct {
    pj_process *items;
    size_t count;
} ancestors;

static int remember(ancestors *list, pj_process *stolen, pj_error *err) {
    pj_process *more = realloc(list->items, (list->count + 1) * sizeof *more);
    if (!more) {
        pj_process_close(stolen);
        return pj_fail(err, ENOMEM, "realloc");
    }
    list->items = more;
    list->items[list->count++] = *stolen;
    return 0;
}

static void forget(ancestors *list) {
    for (size_t at = 0; at < list->count; at++) {
        pj_process_close(&list->items[at]);
    }
    free(list->items);
}

/* Goes up from *at. Whom hidepid hides is pinned, as it may come into sight, and asked by its pidfd; it is taken for as
 * young as its child. */
static int go_up(int proc, pj_stat *at, pj_process *out, pj_error *err) {
    pj_stat above;
    pj_pidfd_info info;
    pj_process process = {.pid = at->parent, .handle = -1};
    if (pj_procfs_stat_at(proc, at->parent, &above, err) == 0) {
        process.created = above.start;
    } else if (err->code != EACCES) {
        return -1;
    } else {
        process.handle = pj_pidfd_open(process.pid, err);
        if (process.handle == -2) {
            return -1;
        }
        if (!pj_pidfd_ask(&process, PJ_INFO_PID, &info)) {
            pj_process_close(&process);
            return pj_fail(err, EACCES, "openat(/proc/PID/stat): hides an ancestor of ours from us");
        }
        above = (pj_stat){.pid = process.pid, .parent = info.ppid, .start = at->start};
    }
    *at = above;
    *out = process;
    return 0;
}

/* The caller's ancestors below `root`, if that is one; else all. They can only become fewer: who loses its parent goes
 * to another ancestor. A root younger than the caller cannot be an ancestor, nor can what descends from it. */
static int find_ancestors(const pj_stat *root, ancestors *out, pj_error *err) {
    int proc = pj_procfs_open(err);
    if (proc < 0) {
        return -1;
    }
    pj_stat stat;
    int status = pj_procfs_stat_at(proc, getpid(), &stat, err);
    while (status == 0 && root->start <= stat.start && stat.parent != 0 && stat.parent != root->pid) {
        pj_process above;
        status = go_up(proc, &stat, &above, err);
        if (status == 0) {
            status = remember(out, &above, err);
        } else if (status < 0 && err->code == ESRCH) { /* it died meanwhile: once more from the bottom */
            status = pj_procfs_stat_at(proc, getpid(), &stat, err);
        }
    }
    close(proc);
    return status;
}

/* SIGKILL from inside does nothing to the init of a PID namespace. */
static _Noreturn void end_self(void) {
    kill(getpid(), SIGKILL);
    _exit(128 + SIGKILL);
}

int pj_refuse_deaf(const pj_process *process, pj_stat *stat, pj_error *err) {
    if (pj_procfs_stat(process->pid, stat, err) < 0) {
        return -1;
    }
    if (stat->kernel) {
        return pj_fail(err, EPERM, "SIGKILL: a kernel thread is deaf to it");
    }
    if (process->pid == 1 && getpid() != 1) {
        return pj_fail(err, EPERM, "SIGKILL: init of our PID namespace is deaf to it");
    }
    return 0;
}

int pj_kill_tree(const pj_process *root, bool include_root, pj_deadline deadline, pj_caller *caller, pj_pids *killed,
                 pj_pids *survivors, pj_error *err) {
    bool self = root->pid == getpid();
    pj_stat stat = {0};
    ancestors above = {0};
    if (pj_refuse_deaf(root, &stat, err) < 0) {
        if (err->code != ESRCH) {
            return -1;
        }
        stat.start = UINT64_MAX; /* ended: nothing descends from it any more */
    }
    int status = find_ancestors(&stat, &above, err);
    if (status == 0) {
        pj_forest forest = {.roots = root,
                            .root_count = 1,
                            .spared = above.items,
                            .spared_count = above.count,
                            .with_roots = include_root && !self,
                            .lossy = true};
        status = pj_hunt(&forest, deadline, caller, killed, survivors, err);
    }
    forget(&above);
    if (status >= 0 && self && include_root) {
        end_self();
    }
    return status;
}
