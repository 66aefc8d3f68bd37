/* assign_self() without cgroup: the caller asked for it, and becomes the subreaper of whatever it starts. */
#ifndef PJ_LINUX_ADOPT_H
#define PJ_LINUX_ADOPT_H

#include "core/process.h"
#include "linux/procfs.h"

/* Members are all descendants of the caller but those that were there before, what these start, and the guards. What
 * cannot be promised: the death of the owner ends nobody; the kill is one by one; an orphan that we first see as our
 * own child stays a zombie until the caller collects it, as any child of his, and is a member, though one from before
 * had started it. */
typedef struct {
    pj_process *before; /* descendants when it began, and what those were seen to have started, by start time */
    size_t before_count;
    pj_process
        *orphans; /* seen under another parent, by start time: when they are our zombies, they are ours to reap */
    size_t orphan_count;
    bool was_subreaper;
} pj_adoption;

int pj_adoption_begin(pj_adoption **out, pj_error *err); /* prctl(2) PR_SET_CHILD_SUBREAPER */
void pj_adoption_end(pj_adoption *adoption);             /* and frees */
void pj_adoption_free(pj_adoption *adoption); /* changes nothing else: in a forked child, which is no subreaper */

/* Whom a look at the caller's tree passes over, as pj_forest has them: the guards with the parked processes above them,
 * and those from before with what they started, unless it is below one of these roots. */
typedef struct {
    pj_process *spared, *foreign;
    size_t spared_count, foreign_count;
} pj_apart;

/* Reaps the orphans that ended, too. */
int pj_adoption_look(pj_adoption *adoption, const pj_process *roots, size_t root_count, pj_apart *out, pj_error *err);

/* Remembers who lives below us under another parent, and forgets nobody: the table may be older than the last look. */
int pj_adoption_note(pj_adoption *adoption, const pj_table *table, pj_error *err);
void pj_apart_free(pj_apart *apart);

#endif
