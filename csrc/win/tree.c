/* Trees by parentage. Windows never gives an orphan a new parent, but it does give the PID of a dead parent to others:
 * a process that is older than its parent is no child of it. */
#include "win/pins.h"
#include "win/snapshot.h"

#include <stdlib.h>

/* ---- children ---- */

static int creation_of(const pj_snapshot *snapshot, pj_pid pid, uint64_t *created, pj_error *err) {
    const pj_entry *entry = pj_snapshot_find(snapshot, pid);
    pj_process process;
    if (entry) {
        *created = entry->created;
        return 0;
    }
    if (pj_process_open(pid, &process, err) < 0) {
        return -1;
    }
    *created = process.created; /* dead, but somebody holds a handle: its PID is not free, its children are its own */
    pj_process_close(&process);
    return 0;
}

typedef struct {
    const pj_snapshot *snapshot;
    pj_pids *out;
} walk;

static bool add_children(const walk *self, pj_pid pid, uint64_t created) {
    size_t count;
    const pj_entry *entries = pj_snapshot_children(self->snapshot, pid, &count);
    for (size_t at = 0; at < count; at++) {
        if (pj_is_child(&entries[at], pid, created) && !pj_pids_add(self->out, entries[at].pid)) {
            return false;
        }
    }
    return true;
}

/* Parentage is a forest, since every child is younger than its parent or of the same tick: no PID is added twice, but
 * for a cycle within one tick, which `most` ends. */
static bool add_all(const walk *self, size_t most) {
    for (size_t at = 0; at < self->out->count && self->out->count <= most; at++) {
        const pj_entry *entry = pj_snapshot_find(self->snapshot, self->out->items[at]);
        if (entry && !add_children(self, entry->pid, entry->created)) {
            return false;
        }
    }
    return true;
}

int pj_children(pj_pid pid, bool recursive, pj_pids *out, pj_error *err) {
    pj_snapshot snapshot = {0};
    pj_pids found = {0};
    uint64_t created;
    if (pj_snapshot_take(&snapshot, err) < 0) {
        return -1;
    }
    int result = creation_of(&snapshot, pid, &created, err);
    const walk self = {&snapshot, &found};
    if (result == 0 && (!add_children(&self, pid, created) || (recursive && !add_all(&self, snapshot.count)))) {
        result = pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
    }
    pj_snapshot_free(&snapshot);
    if (result < 0) {
        pj_pids_free(&found);
        return -1;
    }
    pj_pids_sort(&found);
    *out = found;
    return 0;
}

/* ---- kill_tree: nobody is stopped first; ending is what holds ----
 * Every process that is found is pinned at once: its PID then cannot be recycled, so that who names it as parent is its
 * child, also when it is dead. Parents are ended before their children, so that none starts a child again; and when all
 * that were found have ended, another look finds whom they started meanwhile. */

typedef struct {
    pj_pid pid;
    uint64_t created;
    HANDLE handle; /* NULL: we may not open it */
    bool spared, ended;
} node;

typedef struct {
    node *items;
    size_t count, room;
    pj_caller *caller; /* or NULL */
    pj_pids *killed;
} tree;

static int add_node(tree *self, node found, pj_error *err) {
    if (self->count == self->room) {
        size_t room = self->room ? 2 * self->room : 64;
        node *items = realloc(self->items, room * sizeof *items);
        if (!items) {
            return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
        }
        self->items = items;
        self->room = room;
    }
    self->items[self->count++] = found;
    return 0;
}

static bool has_node(const tree *self, pj_pid pid, uint64_t created) {
    for (size_t at = 0; at < self->count; at++) {
        if (self->items[at].pid == pid && self->items[at].created == created) {
            return true;
        }
    }
    return false;
}

/* Pinned, and then verified to be whom the snapshot saw. Whom we may not open stays as a name; who is gone is left out.
 */
static int add_entry(tree *self, const pj_entry *entry, bool spared, pj_error *err) {
    node found = {entry->pid, entry->created, NULL, spared, false};
    pj_process process;
    if (pj_process_open(entry->pid, &process, err) == 0) {
        if (process.created != entry->created) {
            pj_process_close(&process);
            return 0;
        }
        found.handle = pj_handle_of(&process);
    } else if (err->code == PJ_E_GONE) {
        return 0;
    } else if (err->code != ERROR_ACCESS_DENIED) {
        return -1;
    }
    if (add_node(self, found, err) < 0) {
        pj_handle_close(found.handle);
        return -1;
    }
    return 0;
}

/* The caller and its ancestors: those that are still known, each older than its child. */
static bool is_spared(const pj_snapshot *snapshot, const pj_entry *entry) {
    const pj_entry *at = pj_snapshot_find(snapshot, (pj_pid)GetCurrentProcessId());
    for (size_t steps = 0; at && steps < snapshot->count; steps++) {
        if (at->pid == entry->pid) {
            return true;
        }
        const pj_entry *parent = pj_snapshot_find(snapshot, at->parent);
        at = parent && pj_is_child(at, parent->pid, parent->created) ? parent : NULL;
    }
    return false;
}

/* Everybody who is connected with somebody found already: *grown when there was anybody new. */
static int grow(tree *self, bool *grown, pj_error *err) {
    pj_snapshot snapshot;
    size_t before = self->count;
    int result = 0;
    if (pj_snapshot_take(&snapshot, err) < 0) {
        return -1;
    }
    for (size_t at = 0; result == 0 && at < self->count; at++) {
        size_t count;
        const pj_entry *entries = pj_snapshot_children(&snapshot, self->items[at].pid, &count);
        for (size_t next = 0; result == 0 && next < count; next++) {
            const node *parent = &self->items[at];
            if (pj_is_child(&entries[next], parent->pid, parent->created) &&
                !has_node(self, entries[next].pid, entries[next].created)) {
                result = add_entry(self, &entries[next], is_spared(&snapshot, &entries[next]), err);
            }
        }
    }
    pj_snapshot_free(&snapshot);
    *grown = self->count > before;
    return result;
}

static bool is_left(const node *at) {
    return !at->spared && (!at->handle || pj_handle_alive(at->handle));
}

/* *ended: somebody was. */
static int end_all(tree *self, bool *ended, pj_error *err) {
    *ended = false;
    for (size_t at = 0; at < self->count; at++) {
        node *victim = &self->items[at];
        if (is_left(victim) && victim->handle && !victim->ended && TerminateProcess(victim->handle, PJ_SIGKILL)) {
            *ended = victim->ended = true;
            if (!pj_pids_add(self->killed, victim->pid)) {
                return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
            }
        }
    }
    return 0;
}

/* In slices: no signal ends this wait. */
static int await_one(const tree *self, HANDLE process, pj_deadline deadline, pj_error *err) {
    for (bool more = true; more;) {
        pj_deadline slice = pj_earlier(deadline, pj_now() + PJ_SLICE);
        more = WaitForSingleObject(process, (DWORD)pj_left_ms(slice, INT32_MAX)) == WAIT_TIMEOUT && slice < deadline;
        if (more && self->caller && !self->caller->go_on(self->caller)) {
            return pj_fail(err, ERROR_CANCELLED, "WaitForSingleObject");
        }
    }
    return 0;
}

static int await_all(const tree *self, pj_deadline deadline, pj_error *err) {
    for (size_t at = 0; at < self->count; at++) {
        const node *one = &self->items[at];
        if (!one->spared && one->handle && await_one(self, one->handle, deadline, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int name_left(const tree *self, pj_pids *out, pj_error *err) {
    pj_pids left = {0};
    for (size_t at = 0; at < self->count; at++) {
        if (is_left(&self->items[at]) && !pj_pids_add(&left, self->items[at].pid)) {
            pj_pids_free(&left);
            return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
        }
    }
    pj_pids_sort(&left);
    *out = left;
    return left.count > 0;
}

/* A tree of which we may end nobody, its root included: no matter of time. (Who is about to end refuses, too.) */
static bool is_forbidden(const tree *self) {
    const node *root = &self->items[0];
    return !root->spared && !root->ended && self->killed->count == 0 &&
           WaitForSingleObject(root->handle, 100) == WAIT_TIMEOUT;
}

/* Until a look after the last end finds nobody new. */
static int end_tree(tree *self, pj_deadline deadline, pj_error *err) {
    bool grown, ended;
    do {
        if (grow(self, &grown, err) < 0 || end_all(self, &ended, err) < 0) {
            return -1;
        }
        if (is_forbidden(self)) {
            return pj_fail(err, ERROR_ACCESS_DENIED, "TerminateProcess");
        }
        if (await_all(self, deadline, err) < 0) {
            return -1;
        }
    } while ((grown || ended) && pj_now() < deadline);
    return grown || ended ? grow(self, &grown, err) : 0; /* out of time: whoever came last is named */
}

static void free_tree(tree *self) {
    for (size_t at = 0; at < self->count; at++) {
        pj_handle_close(self->items[at].handle);
    }
    free(self->items);
}

static int copy_root(const pj_process *root, HANDLE *out, pj_error *err) {
    HANDLE self = GetCurrentProcess();
    if (!DuplicateHandle(self, pj_handle_of(root), self, out, 0, FALSE, DUPLICATE_SAME_ACCESS)) {
        return pj_fail(err, (int)GetLastError(), "DuplicateHandle");
    }
    return 0;
}

int pj_kill_tree(const pj_process *root, bool include_root, pj_deadline deadline, pj_caller *caller, pj_pids *killed,
                 pj_pids *survivors, pj_error *err) {
    pj_pids ended = {0}, left = {0};
    tree self = {.caller = caller, .killed = &ended};
    bool suicide = root->pid == (pj_pid)GetCurrentProcessId();
    node first = {root->pid, root->created, NULL, !include_root || suicide, false};
    int result = copy_root(root, &first.handle, err);
    if (result == 0 && add_node(&self, first, err) < 0) {
        CloseHandle(first.handle);
        result = -1;
    }
    if (result == 0 && (result = end_tree(&self, deadline, err)) == 0) {
        result = name_left(&self, &left, err);
    }
    free_tree(&self);
    if (result < 0) {
        pj_pids_free(&ended);
        return -1;
    }
    if (suicide && include_root) {
        TerminateProcess(GetCurrentProcess(), PJ_SIGKILL); /* last of all; does not return */
    }
    pj_pids_sort(&ended);
    *killed = ended;
    *survivors = left;
    return result;
}
