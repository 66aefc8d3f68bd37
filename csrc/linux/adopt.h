/* assign_self() without cgroup: the caller asked for it, and becomes the subreaper of whatever it starts. */
#ifndef PJ_LINUX_ADOPT_H
#define PJ_LINUX_ADOPT_H

#include "core/process.h"

/* Members are all descendants of the caller but those that were there before, and the guards. What cannot be promised:
 * the death of the owner ends nobody; the kill is one by one; an orphan that we first see as our own child stays a
 * zombie until the caller collects it, as any child of his. */
typedef struct {
    pj_process *before; /* descendants when it began, by start time */
    size_t before_count;
    pj_process
        *orphans; /* seen under another parent, by start time: when they are our zombies, they are ours to reap */
    size_t orphan_count;
    bool was_subreaper;
} pj_adoption;

int pj_adoption_begin(pj_adoption **out, pj_error *err); /* prctl(2) PR_SET_CHILD_SUBREAPER */
void pj_adoption_end(pj_adoption *adoption);             /* and frees */
void pj_adoption_free(pj_adoption *adoption); /* changes nothing else: in a forked child, which is no subreaper */

/* Whom a look at the caller's tree has to pass over: those from before, the guards, and the parked processes above
 * them. One block from malloc(), for which the caller is responsible; reaps the orphans that ended. */
int pj_adoption_look(pj_adoption *adoption, pj_process **spared, size_t *count, pj_error *err);

#endif
