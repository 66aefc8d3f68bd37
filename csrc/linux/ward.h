/* One guard and its program, as the owner sees them: how they are started, what they say, how they are told to go. */
#ifndef PJ_LINUX_WARD_H
#define PJ_LINUX_WARD_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/backend.h"
#include "linux/protocol.h"

typedef struct pj_launch pj_launch; /* what is needed only until the program runs */

typedef struct {
    atomic_uint refs;
    pj_process guard;   /* pid 0: not started yet */
    pj_process program; /* or pid 0 */
    int socket;
    pj_launch *launch; /* until pj_ward_finish() */

    pthread_mutex_t lock; /* held, never while waiting, by whoever reads the socket and what follows */
    bool told, collected; /* the exit status: by the guard, to the guard */
    bool empty;           /* nobody of the tree lives, or ever will */
    bool gone;            /* the guard */
    bool lost;            /* it was killed before, and who was orphaned below it since is nowhere to be found */
    int returncode;
} pj_ward;

/* In this order, by one thread: prepare; start, or exec in a grandchild that the caller forked; finish. */
int pj_ward_prepare(const char *guard, const pj_spec *spec, bool keep, pj_ward **out, pj_error *err);
int pj_ward_start(pj_ward *ward, pj_error *err);

/* Forks. The calling process becomes the guard; what returns, with 0, is its child, which goes on to be the program:
 * with preexec_fn that is a Python, and whatever it does to itself is done to the program alone. Else an errno, in
 * either. The caller must have one thread. */
int pj_ward_exec(const pj_ward *ward);
int pj_ward_finish(pj_ward *ward, pj_child *out, pj_error *err);

/* The last to let go closes the descriptors. Says nothing to the guard. */
static inline pj_ward *pj_ward_ref(pj_ward *ward) {
    atomic_fetch_add(&ward->refs, 1);
    return ward;
}
void pj_ward_unref(pj_ward *ward);

void pj_ward_say(const pj_ward *ward, int kind); /* PJ_LEAVE, PJ_RELEASE, PJ_END; to one who is gone: nothing */

/* What the guard has said until now. */
typedef enum {
    PJ_WARD_LIVE,  /* its tree may have members */
    PJ_WARD_EMPTY, /* it has none, and will have none */
    PJ_WARD_LOST,  /* the guard was killed before its tree ended */
} pj_ward_state;
pj_ward_state pj_ward_look(pj_ward *ward);
bool pj_ward_lost(pj_ward *ward); /* is, or was once, PJ_WARD_LOST */

/* 0: it said something, or is gone; 1: the deadline passed. EINTR is an error. */
int pj_ward_await(const pj_ward *ward, pj_deadline deadline, pj_error *err);

int pj_ward_collect(pj_ward *ward, pj_deadline deadline, int *returncode, pj_error *err); /* as pj_backend.collect() */

#endif
