#include "linux/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "linux/pidref.h"

enum { CLIMBS = 64 }; /* how often a climb begins anew because somebody on the way was reparented */

/* Where in by_pid the first with this pid, or a greater one, is. */
static size_t place(const pj_hold *hold, pj_pid pid) {
    size_t low = 0, high = hold->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (hold->items[hold->by_pid[middle]].process.pid < pid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

pj_held *pj_hold_find(const pj_hold *hold, pj_pid pid) {
    size_t at = place(hold, pid);
    if (at == hold->count || hold->items[hold->by_pid[at]].process.pid != pid) {
        return NULL;
    }
    return &hold->items[hold->by_pid[at]];
}

static bool grow(pj_hold *hold) {
    size_t room = hold->room ? 2 * hold->room : 64;
    pj_held *items = realloc(hold->items, room * sizeof *items);
    if (!items) {
        return false;
    }
    hold->items = items;
    size_t *by_pid = realloc(hold->by_pid, room * sizeof *by_pid);
    if (!by_pid) {
        return false;
    }
    hold->by_pid = by_pid;
    hold->room = room;
    return true;
}

static void append(pj_hold *hold, const pj_held *held) {
    size_t at = place(hold, held->process.pid);
    memmove(&hold->by_pid[at + 1], &hold->by_pid[at], (hold->count - at) * sizeof *hold->by_pid);
    hold->by_pid[at] = hold->count;
    hold->items[hold->count++] = *held;
}

bool pj_hold_add(pj_hold *hold, const pj_held *held) {
    pj_held *former = pj_hold_find(hold, held->process.pid);
    if (former) { /* it ended, and the PID is another's */
        pj_process_close(&former->process);
        *former = *held;
        return true;
    }
    if (hold->count == hold->room && !grow(hold)) {
        return false;
    }
    append(hold, held);
    return true;
}

int pj_hold_knows(const pj_hold *hold, pj_pid pid, bool *out, pj_error *err) {
    const pj_held *held = hold ? pj_hold_find(hold, pid) : NULL;
    *out = false;
    return held ? pj_process_alive(&held->process, out, err) : 0;
}

void pj_hold_sweep(pj_hold *hold) {
    size_t count = hold->count;
    hold->count = 0;
    for (size_t at = 0; at < count; at++) {
        pj_held held = hold->items[at];
        if (held.ended) {
            pj_process_close(&held.process);
        } else {
            append(hold, &held);
        }
    }
}

void pj_hold_free(pj_hold *hold) {
    for (size_t at = 0; at < hold->count; at++) {
        pj_process_close(&hold->items[at].process);
    }
    free(hold->items);
    free(hold->by_pid);
    *hold = (pj_hold){0};
}

/* Whether `pid` names a root, or one that is held, alive at this moment: what has it as its parent is a member. */
static int is_anchor(const pj_view *view, pj_pid pid, bool *out, pj_error *err) {
    if (pj_hold_knows(view->hold, pid, out, err) < 0) {
        return -1;
    }
    return *out ? 0 : pj_is_among(view->forest->roots, view->forest->root_count, pid, out, err);
}

static int is_foreign(const pj_view *view, pj_pid pid, bool *out, pj_error *err) {
    return pj_is_among(view->forest->foreign, view->forest->foreign_count, pid, out, err);
}

enum { REACHED, OUTSIDE, MOVED };

/* One climb. Each link is proved: the parent is older than its child, or the child, looked at again after the parent,
 * still has it. MOVED: somebody on the way was reparented meanwhile. */
static int climb(const pj_view *view, const pj_stat *first, pj_error *err) {
    pj_stat at = *first, above, again;
    for (; at.parent != 0; at = above) {
        bool anchor, foreign;
        if (is_anchor(view, at.parent, &anchor, err) < 0 || is_foreign(view, at.parent, &foreign, err) < 0) {
            return -1;
        }
        if (anchor || foreign) {
            return anchor ? REACHED : OUTSIDE;
        }
        if (pj_procfs_stat_at(view->proc, at.parent, &above, err) < 0) {
            return err->code == ESRCH ? MOVED : -1;
        }
        if (above.start == at.start && pj_procfs_stat_at(view->proc, at.pid, &again, err) < 0) {
            return err->code == ESRCH ? MOVED : -1;
        }
        bool same =
            above.start < at.start || (above.start == at.start && again.start == at.start && again.parent == at.parent);
        if (!same) {
            return MOVED;
        }
    }
    return OUTSIDE;
}

int pj_view_descends(const pj_view *view, const pj_stat *first, bool *out, pj_error *err) {
    pj_stat stat = *first;
    for (int tries = 0; tries < CLIMBS; tries++) {
        int found = climb(view, &stat, err);
        if (found < 0) {
            return -1;
        }
        if (found != MOVED) {
            *out = found == REACHED;
            return 0;
        }
        int look = pj_procfs_stat_at(view->proc, first->pid, &stat, err);
        if (look < 0 && err->code != ESRCH) {
            return -1;
        }
        if (look < 0 || stat.start != first->start) { /* it ended */
            *out = false;
            return 0;
        }
    }
    return pj_fail(err, EAGAIN, "read(/proc/PID/stat): the tree moves too fast");
}

/* Two that live and have the same PID are one. */
int pj_is_among(const pj_process *these, size_t count, pj_pid pid, bool *out, pj_error *err) {
    *out = false;
    for (size_t at = 0; at < count && !*out; at++) {
        if (these[at].pid == pid && pj_process_alive(&these[at], out, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int is_member(const pj_view *view, const pj_stat *stat, bool *out, pj_error *err) {
    const pj_forest *forest = view->forest;
    bool root, spared, foreign;
    if (pj_is_among(forest->roots, forest->root_count, stat->pid, &root, err) < 0 ||
        pj_is_among(forest->spared, forest->spared_count, stat->pid, &spared, err) < 0 ||
        is_foreign(view, stat->pid, &foreign, err) < 0) {
        return -1;
    }
    if (root || spared || foreign) {
        *out = root && forest->with_roots;
        return 0;
    }
    return pj_view_descends(view, stat, out, err);
}

int pj_view_verify(const pj_view *view, const pj_process *process, bool *out, pj_stat *now, pj_error *err) {
    pj_stat stat;
    bool alive = false, member = false;
    if (pj_procfs_stat_at(view->proc, process->pid, &stat, err) < 0) {
        if (err->code != ESRCH) {
            return -1;
        }
    } else if ((stat.start == process->created || process->created == 0) && !pj_stat_dead(&stat)) {
        /* Alive after the look: the line was that of the pinned one. */
        if (is_member(view, &stat, &member, err) < 0 || pj_process_alive(process, &alive, err) < 0) {
            return -1;
        }
    }
    *out = alive && member;
    if (*out) {
        *now = stat;
    }
    return 0;
}

/* Whether the parent's line in the table is that of the parent of this entry: a table is no snapshot, a parent may have
 * died and its PID be another's between the two lines. */
static bool link_holds(const pj_view *view, const pj_stat *entry, size_t above) {
    const pj_stat *parent = &view->table.items[above];
    pj_stat again;
    pj_error unused;
    if (pj_stat_dead(parent) || (view->marks[above] & (VIEW_PASSED | VIEW_IN | VIEW_OUT)) == VIEW_PASSED) {
        return false; /* the latter: a circle, which only PIDs used again can make */
    }
    if (parent->start < entry->start || (view->marks[above] & VIEW_ANCHOR)) {
        return true;
    }
    return parent->start == entry->start && pj_procfs_stat_at(view->proc, entry->pid, &again, &unused) == 0 &&
           again.start == entry->start && again.parent == entry->parent;
}

/* Goes from an entry to its parent's, or, where the table does not tell, decides it by fresh looks. */
static int step_up(pj_view *view, size_t *at, pj_error *err) {
    const pj_stat *entry = &view->table.items[*at];
    if (pj_stat_dead(entry) || entry->parent == 0) {
        view->marks[*at] |= VIEW_OUT;
        return 0;
    }
    const pj_stat *parent = pj_table_find(&view->table, entry->parent);
    size_t above = parent ? (size_t)(parent - view->table.items) : 0;
    if (parent && link_holds(view, entry, above)) {
        *at = above;
        return 0;
    }
    bool member = false;
    if (pj_view_descends(view, entry, &member, err) < 0 &&
        err->code != EACCES) { /* hidden: no member that we can show */
        return -1;
    }
    view->marks[*at] |= VIEW_PROVED | (member ? VIEW_IN : VIEW_OUT);
    return 0;
}

/* Decides an entry and all the open ones above it. */
static int decide(pj_view *view, size_t at, pj_error *err) {
    size_t depth = 0;
    while (!(view->marks[at] & (VIEW_IN | VIEW_OUT))) {
        view->marks[at] |= VIEW_PASSED;
        view->trail[depth] = at;
        if (step_up(view, &at, err) < 0) {
            return -1;
        }
        depth++;
    }
    unsigned char verdict = view->marks[at] & (VIEW_IN | VIEW_OUT);
    while (depth > 0) {
        size_t below = view->trail[--depth];
        view->marks[below] |= verdict;
        if (verdict == VIEW_IN) {
            view->order[view->count++] = below;
        }
    }
    return 0;
}

/* Marks the line of a process that still lives after the scan, so that the line is its own. *shown: there is one. */
static int mark(pj_view *view, const pj_process *process, unsigned char marks, bool *shown, pj_error *err) {
    bool alive;
    *shown = true;
    if (pj_process_alive(process, &alive, err) < 0) {
        return -1;
    }
    if (!alive) {
        return 0;
    }
    const pj_stat *line = pj_table_find(&view->table, process->pid);
    if (!line) {
        *shown = false;
        return 0;
    }
    size_t at = (size_t)(line - view->table.items);
    if ((marks & VIEW_IN) && !(view->marks[at] & VIEW_IN)) {
        view->order[view->count++] = at;
    }
    view->marks[at] |= marks;
    return 0;
}

/* Those that pj_guard_start() left between us and a guard, and the guard below: no part of anybody's tree. */
static void mark_helpers(pj_view *view) {
    for (size_t at = 0; at < view->table.count; at++) {
        view->marks[at] |= pj_table_helps(&view->table, &view->table.items[at]) ? VIEW_SPARED : 0;
    }
}

static int mark_known(pj_view *view, pj_error *err) {
    const pj_forest *forest = view->forest;
    unsigned char root = VIEW_IN | VIEW_ANCHOR | (forest->with_roots ? 0 : VIEW_SPARED);
    bool shown;
    for (size_t at = 0; at < forest->root_count; at++) {
        if (mark(view, &forest->roots[at], root, &shown, err) < 0) {
            return -1;
        }
        if (!shown) {
            return pj_fail(err, EACCES, "getdents64(/proc) or openat(/proc/PID/stat): hides the root of a tree");
        }
    }
    for (size_t at = 0; at < forest->spared_count; at++) {
        if (mark(view, &forest->spared[at], VIEW_SPARED, &shown, err) < 0) {
            return -1;
        }
    }
    for (size_t at = 0; at < forest->foreign_count; at++) {
        if (mark(view, &forest->foreign[at], VIEW_OUT, &shown, err) < 0) {
            return -1;
        }
    }
    for (size_t at = 0; view->hold && at < view->hold->count; at++) {
        const pj_held *held = &view->hold->items[at];
        if (!held->ended && mark(view, &held->process, VIEW_IN | VIEW_ANCHOR, &shown, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool make_room(pj_view *view) {
    if (view->table.count > view->room) {
        size_t room = view->table.room;
        free(view->marks);
        free(view->trail);
        free(view->order);
        view->marks = malloc(room);
        view->trail = malloc(room * sizeof *view->trail);
        view->order = malloc(room * sizeof *view->order);
        view->room = view->marks && view->trail && view->order ? room : 0;
    }
    return view->table.count <= view->room;
}

int pj_view_look(pj_view *view, pj_error *err) {
    view->count = 0;
    if (pj_procfs_scan(&view->table, err) < 0) {
        return -1;
    }
    if (!make_room(view)) {
        return pj_fail(err, ENOMEM, "malloc");
    }
    if (view->table.count == 0) {
        return 0;
    }
    memset(view->marks, 0, view->table.count);
    mark_helpers(view);
    if (mark_known(view, err) < 0) {
        return -1;
    }
    for (size_t at = 0; at < view->table.count; at++) {
        if (decide(view, at, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool is_same(const pj_view *view, const pj_stat *line, pj_stat *again) {
    pj_error unused;
    return pj_procfs_stat_at(view->proc, line->pid, again, &unused) == 0 && again->start == line->start;
}

/* Whether the line of the parent is that of the process which an entry, seen before this, had as its parent: it was
 * there before the entry started, or is its parent still. */
static bool is_settled(pj_view *view, const pj_stat *entry, size_t above) {
    const pj_stat *parent = &view->table.items[above];
    unsigned char *marks = &view->marks[above];
    pj_stat again;
    if (*marks & VIEW_ANCHOR) {
        return true;
    }
    if (!(*marks & (VIEW_SAME | VIEW_GONE))) {
        *marks |= is_same(view, parent, &again) ? VIEW_SAME : VIEW_GONE;
    }
    return (*marks & VIEW_SAME) &&
           (parent->start < entry->start || (is_same(view, entry, &again) && again.parent == entry->parent));
}

int pj_view_settle(pj_view *view, pj_error *err) {
    for (size_t at = 0; at < view->count; at++) {
        size_t index = view->order[at];
        const pj_stat *entry = &view->table.items[index];
        const pj_stat *parent = pj_table_find(&view->table, entry->parent);
        if (!parent || (view->marks[index] & (VIEW_ANCHOR | VIEW_PROVED))) {
            continue;
        }
        size_t above = (size_t)(parent - view->table.items);
        bool member = (view->marks[above] & VIEW_OUT) == 0;
        if (!is_settled(view, entry, above)) {
            member = false;
            if (pj_view_descends(view, entry, &member, err) < 0 && err->code != EACCES) {
                return -1;
            }
        }
        view->marks[index] |= member ? 0 : VIEW_OUT;
    }
    return 0;
}

const pj_stat *pj_view_member(const pj_view *view, size_t at) {
    size_t index = view->order[at];
    return view->marks[index] & (VIEW_OUT | VIEW_SPARED | VIEW_GONE) ? NULL : &view->table.items[index];
}

int pj_view_open(pj_view *view, const pj_forest *forest, const pj_hold *hold, pj_error *err) {
    *view = (pj_view){.forest = forest, .hold = hold, .proc = pj_procfs_open(err)};
    return view->proc < 0 ? -1 : 0;
}

void pj_view_close(pj_view *view) {
    if (view->proc >= 0) {
        close(view->proc);
    }
    pj_table_free(&view->table);
    free(view->marks);
    free(view->trail);
    free(view->order);
    *view = (pj_view){.proc = -1};
}
