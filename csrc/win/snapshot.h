/* All processes of the system at one instant, with the creation times that tell a parent from a recycled PID. */
#ifndef PJ_WIN_SNAPSHOT_H
#define PJ_WIN_SNAPSHOT_H

#include "win/handle.h"

typedef struct {
    pj_pid pid, parent;
    uint64_t created;
} pj_entry;

typedef struct {
    pj_entry *items; /* living processes, by parent */
    size_t count;
} pj_snapshot;

int pj_snapshot_take(pj_snapshot *out, pj_error *err);
void pj_snapshot_free(pj_snapshot *snapshot);

const pj_entry *pj_snapshot_find(const pj_snapshot *snapshot, pj_pid pid); /* or NULL */

/* The processes that name `pid` as their parent: *count of them. Some may be older than it: strangers. */
const pj_entry *pj_snapshot_children(const pj_snapshot *snapshot, pj_pid pid, size_t *count);

static inline bool pj_is_child(const pj_entry *entry, pj_pid pid, uint64_t created) {
    return entry->parent == pid && entry->pid != pid && entry->created >= created;
}

#endif
