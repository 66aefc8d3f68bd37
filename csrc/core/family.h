/* Who is whose child among the jobs of a backend that keeps its members in memory. A job embeds one pj_kin. One mutex
 * guards a whole family: the links, and what the jobs keep beside them. It is for looking and noting, and never held
 * across anything that waits. A job may leave before those inside it: they then belong to the one around it. */
#ifndef PJ_CORE_FAMILY_H
#define PJ_CORE_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct pj_family pj_family;

typedef struct pj_kin {
    struct pj_kin *parent, *first, *next; /* first child, next sibling; guarded */
    pj_family *family;                    /* the mutex, shared by all that stem from one job */
    pid_t owner;                          /* the process that joined */
} pj_kin;

/* The struct of type `type` whose member `member` is the kin. */
#define PJ_KIN_OF(type, member, kin) ((type *)(void *)((char *)(kin) - offsetof(type, member)))

/* `parent`: a member, or NULL: a new family. false: out of memory. Neither may be called with the lock held. */
bool pj_family_join(pj_kin *kin, pj_kin *parent);
void pj_family_leave(pj_kin *kin);

/* In a forked child these and leaving do nothing: whoever holds the lock was not copied. */
void pj_family_lock(const pj_kin *kin);
void pj_family_unlock(const pj_kin *kin);

/* The one after `at` among `root` and all its descendants, parents before children; NULL: that was the last. Start with
 * `root` itself. With the lock held. */
pj_kin *pj_family_next(pj_kin *root, pj_kin *at);

#endif
