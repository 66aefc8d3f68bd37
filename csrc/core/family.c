#define _GNU_SOURCE 1
#include "core/family.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct pj_family {
    pthread_mutex_t mutex;
    size_t count;
};

void pj_family_lock(const pj_kin *kin) {
    if (kin->owner == getpid()) {
        pthread_mutex_lock(&kin->family->mutex);
    }
}

void pj_family_unlock(const pj_kin *kin) {
    if (kin->owner == getpid()) {
        pthread_mutex_unlock(&kin->family->mutex);
    }
}

static pj_family *new_family(void) {
    pj_family *family = calloc(1, sizeof *family);
    if (family != NULL) {
        pthread_mutex_init(&family->mutex, NULL);
    }
    return family;
}

bool pj_family_join(pj_kin *kin, pj_kin *parent) {
    pj_family *family = parent != NULL ? parent->family : new_family();
    if (family == NULL) {
        return false;
    }
    *kin = (pj_kin){.parent = parent, .family = family, .owner = getpid()};
    pj_family_lock(kin);
    if (parent != NULL) {
        kin->next = parent->first;
        parent->first = kin;
    }
    family->count++;
    pj_family_unlock(kin);
    return true;
}

static void unlink_from_parent(pj_kin *kin) {
    pj_kin **link = &kin->parent->first;
    while (*link != kin) {
        link = &(*link)->next;
    }
    *link = kin->next;
}

static void hand_children_on(pj_kin *kin) {
    for (pj_kin *next, *child = kin->first; child != NULL; child = next) {
        next = child->next;
        child->parent = kin->parent;
        child->next = NULL;
        if (kin->parent != NULL) {
            child->next = kin->parent->first;
            kin->parent->first = child;
        }
    }
}

void pj_family_leave(pj_kin *kin) {
    pj_family *family = kin->family;
    if (kin->owner != getpid()) {
        return;
    }
    pj_family_lock(kin);
    if (kin->parent != NULL) {
        unlink_from_parent(kin);
    }
    hand_children_on(kin);
    bool last = --family->count == 0;
    pj_family_unlock(kin);
    if (last) {
        pthread_mutex_destroy(&family->mutex);
        free(family);
    }
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
