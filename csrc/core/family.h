/* Who is whose child among the jobs of a backend that keeps its members in memory. A job embeds one pj_kin; a job
 * without a parent is the head of a family, and its mutex guards the whole family: the links, and what the jobs keep
 * beside them. The lock is for looking and noting, never held across anything that waits. */
#ifndef PJ_CORE_FAMILY_H
#define PJ_CORE_FAMILY_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct pj_kin {
    struct pj_kin *parent, *first, *next; /* first child, next sibling */
    pthread_mutex_t mutex;                /* the head's is used */
    pid_t owner;                          /* the process that joined */
} pj_kin;

/* The struct of type `type` whose member `member` is the kin. */
#define PJ_KIN_OF(type, member, kin) ((type *)(void *)((char *)(kin) - offsetof(type, member)))

/* `parent`: NULL, or one that stays a member until after this one has left. Neither may be called with the lock held.
 * In a forked child leaving does nothing: the lock may be held by a thread that the fork did not copy. */
void pj_family_join(pj_kin *kin, pj_kin *parent);
void pj_family_leave(pj_kin *kin);

void pj_family_lock(pj_kin *kin);
void pj_family_unlock(pj_kin *kin);

/* The one after `at` among `root` and all its descendants, parents before children; NULL: that was the last. Start with
 * `root` itself. With the lock held. */
pj_kin *pj_family_next(pj_kin *root, pj_kin *at);

#endif
