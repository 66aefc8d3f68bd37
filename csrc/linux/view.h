/* One look at a forest: the table of /proc with its members marked. Inner part of tree.c and hunt.c. */
#ifndef PJ_LINUX_VIEW_H
#define PJ_LINUX_VIEW_H

#include "linux/procfs.h"
#include "linux/tree.h"

/* Those whom a hunt holds: members proved once, so that their children are members too, whatever became of the roots.
 */
typedef struct {
    pj_process process;
    bool stopped; /* by us: it ran before */
    bool refused; /* we may not signal it */
    bool killed;
    bool ended;
    unsigned char deep; /* how often it was seen in a sleep that no SIGSTOP ends */
} pj_held;

struct pj_hold {
    pj_held *items; /* parents before their children */
    size_t *by_pid; /* indices of items, ascending by pid */
    size_t count, room;
};

bool pj_hold_add(pj_hold *hold, const pj_held *held); /* false: out of memory, nothing changed */
pj_held *pj_hold_find(const pj_hold *hold, pj_pid pid);
int pj_hold_knows(const pj_hold *hold, pj_pid pid, bool *out, pj_error *err); /* whether who has it now is held */
void pj_hold_sweep(pj_hold *hold); /* drops the ended, closes their handles */
void pj_hold_free(pj_hold *hold);

enum {
    VIEW_IN = 1,
    VIEW_OUT = 2,
    VIEW_SPARED = 4,
    VIEW_ANCHOR = 8, /* proved to be alive after the scan: its line is its own */
    VIEW_PASSED = 16,
    VIEW_PROVED = 32, /* decided by fresh looks */
    VIEW_SAME = 64,   /* looked at after the scan: its PID was its own until then */
    VIEW_GONE = 128,  /* looked at after the scan: its PID may have been another's before */
};

typedef struct {
    const pj_forest *forest;
    const pj_hold *hold; /* or NULL */
    int proc;
    pj_table table;
    unsigned char *marks; /* one for each entry of the table */
    size_t *trail;        /* scratch of decide() */
    size_t *order;        /* the entries that are VIEW_IN, parents before their children */
    size_t count, room;
} pj_view;

int pj_view_open(pj_view *view, const pj_forest *forest, const pj_hold *hold, pj_error *err);
void pj_view_close(pj_view *view); /* also after a failed open */

int pj_view_look(pj_view *view, pj_error *err);

/* Whether all members hang together, which the table alone does not tell, as it is no snapshot: a parent that died
 * during the scan may stand in it with a PID that was another's when its alleged child was seen. Each parent is looked
 * at again; who hangs on none that is still there is decided by fresh looks. */
int pj_view_settle(pj_view *view, pj_error *err);

/* The living member at order[at]; NULL: it is spared, or none after all. */
const pj_stat *pj_view_member(const pj_view *view, size_t at);

/* Whether the process of `first` descends from a root or from one that is held, by fresh looks at it and its parents. A
 * look is refused: EACCES. */
int pj_view_descends(const pj_view *view, const pj_stat *first, bool *out, pj_error *err);

/* Whether one of these has this PID and lives. */
int pj_is_among(const pj_process *these, size_t count, pj_pid pid, bool *out, pj_error *err);

/* After it was pinned: whether a process with the PID and start time of `process` is the pinned one, alive and a
 * member. *now: its latest line, if so. */
int pj_view_verify(const pj_view *view, const pj_process *process, bool *out, pj_stat *now, pj_error *err);

#endif
