/* Trees by parentage, and how they are ended: stop, scan, until nobody new is found, then kill. A stopped process
 * cannot fork, and SIGKILL works on it. Shared by kill_tree, the reaper backend and the guard (no libc). */
#ifndef PJ_LINUX_TREE_H
#define PJ_LINUX_TREE_H

#include "core/process.h"
#include "linux/procfs.h"

/* The descendants of all roots. Dead roots count for nothing. Roots are followed but are no members themselves, unless
 * with_roots; the spared are followed too, and are never members; neither are the foreign, nor what is below them and
 * not below a root that is below them. The calling process can be a member and is listed
 * then, but is never signalled or killed. */
typedef struct {
    const pj_process *roots; /* pinned, in any order */
    size_t root_count;
    const pj_process *spared; /* guards of other jobs */
    size_t spared_count;
    const pj_process *foreign; /* from before assign_self() */
    size_t foreign_count;
    bool with_roots;
    bool lossy; /* no root collects orphans, as kill_tree() has it: whoever loses its parents unseen is lost */
    /* Or NULL: while members are ended, is shown each look before anybody is killed by it. */
    void (*show)(void *arg, const pj_table *table);
    void *arg;
} pj_forest;

/* Living members, sorted: one scan of /proc, whatever the number of roots. */
int pj_forest_list(const pj_forest *forest, pj_pids *out, pj_error *err);

/* Whether a pinned process is a living member: walks up its parents, no scan. `known` (or NULL) is for one who asks for
 * many: the members found so far, so that a walk ends at the first of them. */
typedef struct pj_hold pj_hold; /* linux/view.h */
int pj_forest_contains(const pj_forest *forest, const pj_process *process, pj_hold *known, bool *out, pj_error *err);

/* One pass: each member pinned, verified, then signalled, at most once. Whom we may not signal is passed over. */
int pj_forest_signal(const pj_forest *forest, int sig, pj_error *err);

/* Ends all members. 0: none lives; 1: the deadline passed, *survivors names who is left (those included who may not be
 * signalled). A deadline that has passed already still means one whole attempt, without waiting for the deaths. Keeps
 * no state: call it again for another attempt. *killed (or NULL): whom we killed, appended in no order, also on error.
 * On an error nobody is left stopped who was running before. EINTR is not returned: a signal shortens no attempt. */
int pj_forest_kill(const pj_forest *forest, pj_deadline deadline, pj_pids *killed, pj_pids *survivors, pj_error *err);

/* EPERM: whom no SIGKILL of ours ends, a kernel thread or init. *stat: the look at it, also then; else untouched. */
int pj_refuse_deaf(const pj_process *process, pj_stat *stat, pj_error *err);

#endif
