#define _GNU_SOURCE 1
#include "linux/kin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "linux/procfs.h"

int pj_kin_new(const pj_create *how, const pj_backend *backend, pj_kin **out, pj_error *err) {
    pj_kin *parent = (pj_kin *)how->parent;
    pj_kin *kin = calloc(1, sizeof *kin);
    char *guard = kin != NULL ? strdup(how->guard) : NULL;
    if (guard == NULL) {
        free(kin);
        return pj_fail(err, ENOMEM, "calloc");
    }
    kin->guard = guard;
    pj_job_init(&kin->head, backend, how->parent, how->keep);
    pthread_mutex_init(&kin->own, NULL);
    kin->lock = parent != NULL ? parent->lock : &kin->own; /* the memory of the jobs around it lives as long as we do */
    if (parent != NULL) {
        pthread_mutex_lock(kin->lock);
        kin->up = parent;
        kin->next = parent->inner;
        parent->inner = kin;
        pthread_mutex_unlock(kin->lock);
    }
    *out = kin;
    return 0;
}

static pj_kin *outermost(pj_kin *kin) {
    return (pj_kin *)((char *)kin->lock - offsetof(pj_kin, own));
}

static bool make_room(pj_kin *kin) {
    if (kin->ward_count == kin->ward_room) {
        size_t room = kin->ward_room == 0 ? 1 : kin->ward_room * 2;
        pj_ward **wards = realloc(kin->wards, room * sizeof(pj_ward *));
        if (wards == NULL) {
            return false;
        }
        kin->wards = wards;
        kin->ward_room = room;
    }
    return true;
}

/* Of those that closed jobs left here: whose tree is empty concerns nobody any more. */
static void forget_empty(pj_kin *kin) {
    size_t kept = 0;
    for (size_t i = 0; i < kin->ward_count; i++) {
        pj_ward *ward = kin->wards[i];
        if (ward != kin->latest && pj_ward_look(ward) == PJ_WARD_EMPTY) {
            pj_ward_unref(ward);
        } else {
            kin->wards[kept++] = ward;
        }
    }
    kin->ward_count = kept;
}

int pj_kin_add(pj_kin *kin, pj_ward *stolen, pj_error *err) {
    pthread_mutex_lock(kin->lock);
    forget_empty(kin);
    bool added = make_room(kin);
    if (added) {
        kin->wards[kin->ward_count++] = kin->latest = stolen;
        outermost(kin)->births++;
    }
    pthread_mutex_unlock(kin->lock);
    if (!added) {
        pj_ward_say(stolen, PJ_END);
        pj_ward_say(stolen, PJ_LEAVE);
        pj_ward_unref(stolen);
        return pj_fail(err, ENOMEM, "realloc");
    }
    return 0;
}

/* ---- the end of a job ---- */

static void unlink_from(pj_kin *up, const pj_kin *kin) {
    pj_kin **at = &up->inner;
    while (*at != kin) {
        at = &(*at)->next;
    }
    *at = kin->next;
}

/* The jobs in it go to the one around it. */
static void hand_up_inner(pj_kin *kin) {
    while (kin->inner != NULL) {
        pj_kin *inner = kin->inner;
        kin->inner = inner->next;
        inner->up = kin->up;
        inner->next = kin->up != NULL ? kin->up->inner : NULL;
        if (kin->up != NULL) {
            kin->up->inner = inner;
        }
    }
}

/* So do those of its members that live on. Nobody will ask for their exit status. */
static void hand_up_wards(pj_kin *kin) {
    if (kin->up != NULL) {
        forget_empty(kin->up);
    }
    for (size_t i = 0; i < kin->ward_count; i++) {
        pj_ward *ward = kin->wards[i];
        pj_ward_say(ward, PJ_LEAVE);
        if (kin->up != NULL && pj_ward_look(ward) != PJ_WARD_EMPTY && make_room(kin->up)) {
            kin->up->wards[kin->up->ward_count++] = ward;
        } else {
            pj_ward_unref(ward);
        }
    }
    kin->ward_count = 0;
}

static void free_parts(pj_kin *kin) {
    if (kin->prepared != NULL) {
        pj_ward_unref(kin->prepared);
    }
    for (size_t i = 0; i < kin->ward_count; i++) {
        pj_ward_unref(kin->wards[i]);
    }
    free(kin->wards);
    free(kin->guard);
    kin->prepared = kin->latest = NULL;
    kin->wards = NULL;
    kin->guard = NULL;
    kin->ward_count = 0;
}

static void reap_orphans(pj_adoption *adoption) {
    pj_process *spared;
    size_t count;
    pj_error unused;
    if (pj_adoption_look(adoption, &spared, &count, &unused) == 0) {
        free(spared);
    }
}

void pj_kin_close(pj_kin *kin) {
    pthread_mutex_lock(kin->lock);
    if (kin->up != NULL) {
        unlink_from(kin->up, kin);
    }
    kin->latest = NULL;
    hand_up_inner(kin);
    hand_up_wards(kin);
    free_parts(kin);
    if (kin->adoption != NULL) {
        reap_orphans(kin->adoption);
        pj_adoption_end(kin->adoption);
        kin->adoption = NULL;
    }
    pthread_mutex_unlock(kin->lock);
    pj_job_unref(&kin->head);
}

void pj_kin_abandon(pj_kin *kin) {
    free_parts(kin);
    if (kin->adoption != NULL) {
        pj_adoption_free(kin->adoption);
    }
    pj_job_unref(&kin->head);
}

/* ---- who is in it ---- */

static void say(pj_kin *kin, int kind) {
    for (size_t i = 0; i < kin->ward_count; i++) {
        pj_ward_say(kin->wards[i], kind);
    }
    for (pj_kin *inner = kin->inner; inner != NULL; inner = inner->next) {
        say(inner, kind);
    }
}

void pj_kin_say(pj_kin *kin, int kind) {
    pthread_mutex_lock(kin->lock);
    say(kin, kind);
    pthread_mutex_unlock(kin->lock);
}

unsigned long pj_kin_births(pj_kin *kin) {
    pthread_mutex_lock(kin->lock);
    unsigned long births = outermost(kin)->births;
    pthread_mutex_unlock(kin->lock);
    return births;
}

pj_ward *pj_kin_latest(pj_kin *kin) {
    pthread_mutex_lock(kin->lock);
    pj_ward *ward = kin->latest != NULL ? pj_ward_ref(kin->latest) : NULL;
    pthread_mutex_unlock(kin->lock);
    return ward;
}

/* *adoption: that of the outermost job here that has one. */
static size_t count(const pj_kin *kin, pj_adoption **adoption) {
    size_t wards = kin->ward_count;
    if (*adoption == NULL) {
        *adoption = kin->adoption;
    }
    for (const pj_kin *inner = kin->inner; inner != NULL; inner = inner->next) {
        wards += count(inner, adoption);
    }
    return wards;
}

static void gather(const pj_kin *kin, pj_crowd *to) {
    for (size_t i = 0; i < kin->ward_count; i++) {
        pj_ward *ward = kin->wards[i];
        pj_ward_state state = pj_ward_look(ward);
        if (state == PJ_WARD_EMPTY) {
            continue;
        }
        to->wards[to->count++] = pj_ward_ref(ward);
        if (state == PJ_WARD_LIVE) {
            to->roots[to->root_count++] = ward->guard;
        } else if (ward->program.pid != 0) {
            to->stumps[to->stump_count++] = ward->program;
        }
    }
    for (const pj_kin *inner = kin->inner; inner != NULL; inner = inner->next) {
        gather(inner, to);
    }
}

static int add_caller(pj_adoption *adoption, pj_crowd *to, pj_error *err) {
    pj_stat self;
    if (pj_procfs_stat(getpid(), &self, err) < 0 ||
        pj_adoption_look(adoption, &to->spared, &to->spared_count, err) < 0) {
        return -1;
    }
    to->roots[to->root_count++] = (pj_process){self.pid, -1, self.start};
    to->holds_caller = true;
    return 0;
}

static int take(pj_kin *kin, pj_crowd *to, pj_error *err) {
    pj_adoption *adoption = NULL;
    size_t most = count(kin, &adoption) + 1;
    to->wards = malloc(most * sizeof(pj_ward *));
    to->roots = malloc(most * sizeof *to->roots);
    to->stumps = malloc(most * sizeof *to->stumps);
    if (to->wards == NULL || to->roots == NULL || to->stumps == NULL) {
        return pj_fail(err, ENOMEM, "malloc");
    }
    gather(kin, to);
    return adoption != NULL ? add_caller(adoption, to, err) : 0;
}

int pj_crowd_take(pj_kin *kin, pj_crowd *out, pj_error *err) {
    pj_crowd crowd = {0};
    pthread_mutex_lock(kin->lock);
    int result = take(kin, &crowd, err);
    pthread_mutex_unlock(kin->lock);
    if (result < 0) {
        pj_crowd_free(&crowd);
        return -1;
    }
    *out = crowd;
    return 0;
}

void pj_crowd_free(pj_crowd *crowd) {
    for (size_t i = 0; i < crowd->count; i++) {
        pj_ward_unref(crowd->wards[i]);
    }
    free(crowd->wards);
    free(crowd->roots);
    free(crowd->stumps);
    free(crowd->spared);
    *crowd = (pj_crowd){0};
}

pj_forest pj_crowd_trees(const pj_crowd *crowd) {
    return (pj_forest){.roots = crowd->roots,
                       .root_count = crowd->root_count,
                       .spared = crowd->spared,
                       .spared_count = crowd->spared_count};
}

pj_forest pj_crowd_stumps(const pj_crowd *crowd) {
    return (pj_forest){.roots = crowd->stumps, .root_count = crowd->stump_count, .with_roots = true};
}
