/* Trees by parentage: stop, look, until nobody new is found; then kill. A stopped process cannot fork. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "bsd/snapshot.h"

enum {
    CLEAN = 2, /* looks in a row without news */
    MOST = 100,
};

typedef struct {
    pj_process process;
    bool stopped, refused, killed, ended; /* stopped: by us, it ran before */
} held;

typedef struct {
    held *items; /* parents before their children */
    size_t count, room;
    const pj_process *root;
    bool with_root;
    pj_pids spared;    /* the caller and its ancestors */
    pj_caller *caller; /* or NULL */
    pj_pids *killed;
    bool lost; /* perhaps: somebody was killed while others ran, and whom they forked meanwhile has no parents now */
} hunt;

/* ---- who belongs to whom ---- */

static bool is_parent(const pj_entry *parent, const pj_entry *child) {
    return child->parent == parent->pid && child->created >= parent->created && child->pid != parent->pid;
}

/* Entries of `all`, in an order in which parents come first, that descend from those marked already. */
static size_t descend(const pj_snapshot *all, bool *in, size_t *order, size_t count, bool recursive) {
    size_t ripe = count;
    for (size_t at = 0; at < ripe; at++) {
        for (size_t i = 0; i < all->count; i++) {
            if (!in[i] && is_parent(&all->items[order[at]], &all->items[i])) {
                in[i] = true;
                order[count++] = i;
            }
        }
        ripe = recursive ? count : ripe;
    }
    return count;
}

typedef struct {
    pj_snapshot all;
    bool *in;
    size_t *order, count;
} view;

static void close_view(view *v) {
    pj_snapshot_free(&v->all);
    free(v->in);
    free(v->order);
}

static int open_view(view *v, pj_error *err) {
    *v = (view){0};
    if (pj_look_all(&v->all, err) < 0) {
        return -1;
    }
    v->in = calloc(v->all.count + 1, sizeof *v->in);
    v->order = calloc(v->all.count + 1, sizeof *v->order);
    if (v->in == NULL || v->order == NULL) {
        close_view(v);
        return pj_fail(err, ENOMEM, "calloc");
    }
    return 0;
}

static void mark(view *v, const pj_process *process) {
    const pj_entry *entry = pj_snapshot_find(&v->all, process->pid);
    if (entry != NULL && entry->created == process->created && !v->in[entry - v->all.items]) {
        v->in[entry - v->all.items] = true;
        v->order[v->count++] = (size_t)(entry - v->all.items);
    }
}

int pj_children(pj_pid pid, bool recursive, pj_pids *out, pj_error *err) {
    pj_process root;
    view v;
    pj_pids found = {0};
    if (pj_process_open(pid, &root, err) < 0 || open_view(&v, err) < 0) {
        return -1;
    }
    mark(&v, &root);
    size_t anchors = v.count, count = descend(&v.all, v.in, v.order, v.count, recursive);
    int result = 0;
    for (size_t at = anchors; at < count && result == 0; at++) {
        const pj_entry *entry = &v.all.items[v.order[at]];
        if (!entry->zombie && !pj_pids_add(&found, entry->pid)) {
            result = pj_fail(err, ENOMEM, "realloc");
        }
    }
    close_view(&v);
    if (result < 0) {
        pj_pids_free(&found);
        return -1;
    }
    pj_pids_sort(&found);
    *out = found;
    return 0;
}

/* ---- the hunt ---- */

static held *find(const hunt *h, const pj_entry *entry) {
    for (size_t at = 0; at < h->count; at++) {
        if (h->items[at].process.pid == entry->pid && h->items[at].process.created == entry->created) {
            return &h->items[at];
        }
    }
    return NULL;
}

static int hold(hunt *h, const pj_entry *entry, pj_error *err) {
    if (h->count == h->room) {
        size_t room = h->room != 0 ? 2 * h->room : 64;
        held *items = realloc(h->items, room * sizeof *items);
        if (items == NULL) {
            return pj_fail(err, ENOMEM, "realloc");
        }
        h->items = items;
        h->room = room;
    }
    held one = {.process = {.pid = entry->pid, .handle = -1, .created = entry->created}};
    if (pj_process_signal(&one.process, SIGSTOP, err) < 0) {
        if (err->code == ESRCH) {
            return 0;
        }
        if (err->code != EPERM) {
            return -1;
        }
        one.refused = true;
    }
    one.stopped = !one.refused && !entry->stopped;
    h->items[h->count++] = one;
    return 0;
}

/* One look, and a stop for everybody new. */
static int pass(hunt *h, bool *clean, pj_error *err) {
    view v;
    if (open_view(&v, err) < 0) {
        return -1;
    }
    mark(&v, h->root);
    size_t anchors = h->with_root ? 0 : v.count;
    for (size_t at = 0; at < h->count; at++) {
        mark(&v, &h->items[at].process);
    }
    size_t count = descend(&v.all, v.in, v.order, v.count, true);
    int result = 0;
    *clean = true;
    for (size_t at = anchors; at < count && result == 0; at++) {
        const pj_entry *entry = &v.all.items[v.order[at]];
        if (!entry->zombie && !entry->kernel && !pj_pids_has(&h->spared, entry->pid) && find(h, entry) == NULL) {
            *clean = false;
            result = hold(h, entry, err);
        }
    }
    close_view(&v);
    return result;
}

static int stop_all(hunt *h, pj_deadline deadline, bool *found, pj_error *err) {
    size_t before = h->count;
    int clean = 0;
    for (int passes = 0; clean < CLEAN && passes < MOST; passes++) {
        bool quiet;
        if (passes > CLEAN && pj_now() >= deadline) {
            break;
        }
        if (pass(h, &quiet, err) < 0) {
            return -1;
        }
        clean = quiet ? clean + 1 : 0;
    }
    *found = h->count > before;
    h->lost = h->lost || (*found && clean < CLEAN);
    return 0;
}

/* Children first: the end of a parent may wake its stopped children (an orphaned group gets SIGCONT). */
static int kill_all(hunt *h, pj_error *err) {
    for (size_t at = h->count; at-- > 0;) {
        held *one = &h->items[at];
        if (one->killed || one->ended) {
            continue;
        }
        if (pj_process_signal(&one->process, SIGKILL, err) == 0) {
            one->killed = true;
            if (!pj_pids_add(h->killed, one->process.pid)) {
                return pj_fail(err, ENOMEM, "realloc");
            }
        } else if (err->code == ESRCH) {
            one->ended = true;
        } else if (err->code != EPERM) {
            return -1;
        }
    }
    return 0;
}

/* Only when all whom we hold have their SIGKILL, or may not get it: what is asked may take its time, or end us. */
static int await_one(const hunt *h, held *one, pj_deadline deadline, pj_error *err) {
    int ended = 0;
    for (bool more = !one->ended; more;) {
        int status;
        bool known;
        pj_deadline slice = pj_earlier(deadline, pj_now() + PJ_SLICE);
        ended = pj_process_wait(&one->process, slice, &status, &known, err);
        more = ended == 1 ? slice < deadline : ended < 0 && err->code == EINTR;
        if (more && h->caller && !h->caller->go_on(h->caller)) {
            return pj_fail(err, EINTR, "kevent");
        }
    }
    one->ended = one->ended || ended == 0;
    return ended < 0 ? -1 : 0;
}

static int await_all(hunt *h, pj_deadline deadline, pj_pids *left, pj_error *err) {
    for (size_t at = 0; at < h->count; at++) {
        held *one = &h->items[at];
        if (await_one(h, one, deadline, err) < 0) {
            return -1;
        }
        if (!one->ended && !pj_pids_add(left, one->process.pid)) {
            return pj_fail(err, ENOMEM, "realloc");
        }
    }
    return 0;
}

/* A tree of which we may end nobody, its root included: no matter of time. */
static bool is_forbidden(const hunt *h) {
    const held *root = h->with_root && h->count > 0 && h->killed->count == 0 ? &h->items[0] : NULL;
    return root != NULL && root->process.pid == h->root->pid && root->refused && !root->ended;
}

static int run_hunt(hunt *h, pj_deadline deadline, pj_pids *left, pj_error *err) {
    for (;;) {
        bool found;
        if (stop_all(h, deadline, &found, err) < 0 || kill_all(h, err) < 0) {
            return -1;
        }
        if (is_forbidden(h)) {
            return pj_fail(err, EPERM, "kill");
        }
        if (!found || pj_now() >= deadline) {
            return await_all(h, deadline, left, err) < 0 ? -1 : left->count > 0 || h->lost;
        }
    }
}

/* Whoever ran before, and was not killed in the end, runs again. */
static void let_run(hunt *h) {
    pj_error ignored;
    for (size_t at = 0; at < h->count; at++) {
        if (h->items[at].stopped && !h->items[at].killed && !h->items[at].ended) {
            pj_process_signal(&h->items[at].process, SIGCONT, &ignored);
        }
    }
    free(h->items);
}

/* The caller, and its ancestors below the root; all of them where the root is none. */
static int spare(hunt *h, pj_error *err) {
    pj_snapshot all;
    if (pj_look_all(&all, err) < 0) {
        return -1;
    }
    int result = 0;
    const pj_entry *at = pj_snapshot_find(&all, getpid());
    while (at != NULL && result == 0) {
        bool root = at->pid == h->root->pid && at->created == h->root->created;
        if (root && at->pid != getpid()) {
            break;
        }
        if (!pj_pids_add(&h->spared, at->pid)) {
            result = pj_fail(err, ENOMEM, "realloc");
        }
        const pj_entry *parent = root || at->parent == at->pid ? NULL : pj_snapshot_find(&all, at->parent);
        at = parent != NULL && is_parent(parent, at) ? parent : NULL;
    }
    pj_pids_sort(&h->spared);
    pj_snapshot_free(&all);
    return result;
}

static int refuse(const pj_process *root, pj_error *err) {
    pj_entry entry;
    if (root->pid == 1) {
        return pj_fail(err, EPERM, "kill: init");
    }
    if (pj_look(root->pid, &entry, err) < 0) {
        return err->code == ESRCH ? 0 : -1;
    }
    return entry.kernel ? pj_fail(err, EPERM, "kill: a process of the kernel") : 0;
}

int pj_kill_tree(const pj_process *root, bool include_root, pj_deadline deadline, pj_caller *caller, pj_pids *killed,
                 pj_pids *survivors, pj_error *err) {
    bool self = root->pid == getpid();
    hunt h = {.root = root, .with_root = include_root && !self, .caller = caller, .killed = killed};
    pj_pids left = {0};
    int result = refuse(root, err);
    if (result == 0) {
        result = spare(&h, err);
    }
    if (result == 0) {
        result = run_hunt(&h, deadline, &left, err);
    }
    let_run(&h);
    pj_pids_free(&h.spared);
    if (result < 0) {
        pj_pids_free(&left);
        return -1;
    }
    pj_pids_sort(&left);
    *survivors = left;
    if (self && include_root) {
        kill(getpid(), SIGKILL);
    }
    return result;
}
