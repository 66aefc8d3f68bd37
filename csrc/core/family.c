#define _GNU_SOURCE 1
#include "core/family.h"

#include <unistd.h>

static pthread_mutex_t *lock_of(pj_kin *kin) {
    while (kin->parent != NULL) { /* constant from join to leave, and parents leave later: no lock needed for this */
        kin = kin->parent;
    }
    return &kin->mutex;
}

void pj_family_lock(pj_kin *kin) {
    pthread_mutex_lock(lock_of(kin));
}

void pj_family_unlock(pj_kin *kin) {
    pthread_mutex_unlock(lock_of(kin));
}

void pj_family_join(pj_kin *kin, pj_kin *parent) {
    *kin = (pj_kin){.parent = parent, .owner = getpid()};
    pthread_mutex_init(&kin->mutex, NULL);
    if (parent != NULL) {
        pj_family_lock(parent);
        kin->next = parent->first;
        parent->first = kin;
        pj_family_unlock(parent);
    }
}

void pj_family_leave(pj_kin *kin) {
    if (kin->owner != getpid()) {
        return;
    }
    if (kin->parent != NULL) {
        pj_family_lock(kin);
        pj_kin **link = &kin->parent->first;
        while (*link != kin) {
            link = &(*link)->next;
        }
        *link = kin->next;
        pj_family_unlock(kin);
    }
    pthread_mutex_destroy(&kin->mutex);
}

pj_kin *pj_family_next(pj_kin *root, pj_kin *at) {
    if (at->first != NULL) {
        return at->first;
    }
    while (at != root && at->next == NULL) {
        at = at->parent;
    }
    return at == root ? NULL : at->next;
}
