#define _GNU_SOURCE 1
#include "linux/reaper_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "linux/procfs.h"

int pj_reaper_new(const pj_create *how, const pj_backend *backend, pj_reaper_job **out, pj_error *err) {
    pj_reaper_job *parent = (pj_reaper_job *)how->parent;
    pj_reaper_job *job = calloc(1, sizeof *job);
    char *guard = job != NULL ? strdup(how->guard) : NULL;
    if (guard == NULL) {
        free(job);
        return pj_fail(err, ENOMEM, "calloc");
    }
    job->guard = guard;
    job->owner = getpid();
    pj_job_init(&job->head, backend, how->parent, how->keep);
    pthread_mutex_init(&job->own, NULL);
    job->lock = parent != NULL ? parent->lock : &job->own; /* the memory of the jobs around it lives as long as we do */
    if (parent != NULL) {
        pthread_mutex_lock(job->lock);
        job->up = parent;
        job->next = parent->inner;
        parent->inner = job;
        pthread_mutex_unlock(job->lock);
    }
    *out = job;
    return 0;
}

static pj_reaper_job *outermost(pj_reaper_job *job) {
    return (pj_reaper_job *)((char *)job->lock - offsetof(pj_reaper_job, own));
}

static bool make_room(pj_reaper_job *job) {
    if (job->ward_count == job->ward_room) {
        size_t room = job->ward_room == 0 ? 1 : job->ward_room * 2;
        pj_ward **wards = realloc(job->wards, room * sizeof(pj_ward *));
        if (wards == NULL) {
            return false;
        }
        job->wards = wards;
        job->ward_room = room;
    }
    return true;
}

/* Of those that closed jobs left here: whose tree is empty concerns nobody any more. */
static void forget_empty(pj_reaper_job *job) {
    size_t kept = 0;
    for (size_t i = 0; i < job->ward_count; i++) {
        pj_ward *ward = job->wards[i];
        if (ward != job->latest && pj_ward_look(ward) == PJ_WARD_EMPTY) {
            job->lost = job->lost || pj_ward_lost(ward);
            pj_ward_unref(ward);
        } else {
            job->wards[kept++] = ward;
        }
    }
    job->ward_count = kept;
}

/* The one after `at` among `root` and all jobs in it, those around before those inside; NULL: that was the last. No
 * recursion: a thread's stack may be small. */
static pj_reaper_job *after(const pj_reaper_job *root, pj_reaper_job *at) {
    if (at->inner != NULL) {
        return at->inner;
    }
    while (at != root && at->next == NULL) {
        at = at->up;
    }
    return at == root ? NULL : at->next;
}

static bool has_lost(pj_reaper_job *job) {
    bool lost = false;
    for (pj_reaper_job *at = job; at != NULL; at = after(job, at)) {
        lost = at->lost || lost;
        for (size_t i = 0; i < at->ward_count; i++) {
            lost = pj_ward_lost(at->wards[i]) || lost;
        }
    }
    return lost;
}

bool pj_reaper_lost(pj_reaper_job *job) {
    pthread_mutex_lock(job->lock);
    bool lost = has_lost(job);
    pthread_mutex_unlock(job->lock);
    return lost;
}

int pj_reaper_add(pj_reaper_job *job, pj_ward *stolen, pj_error *err) {
    pthread_mutex_lock(job->lock);
    forget_empty(job);
    bool added = make_room(job);
    if (added) {
        job->wards[job->ward_count++] = job->latest = stolen;
        outermost(job)->births++;
    }
    pthread_mutex_unlock(job->lock);
    if (!added) {
        pj_ward_say(stolen, PJ_END);
        pj_ward_say(stolen, PJ_LEAVE);
        pj_ward_unref(stolen);
        return pj_fail(err, ENOMEM, "realloc");
    }
    return 0;
}

/* ---- the end of a job ---- */

static void unlink_from(pj_reaper_job *up, const pj_reaper_job *job) {
    pj_reaper_job **at = &up->inner;
    while (*at != job) {
        at = &(*at)->next;
    }
    *at = job->next;
}

/* The jobs in it go to the one around it. */
static void hand_up_inner(pj_reaper_job *job) {
    while (job->inner != NULL) {
        pj_reaper_job *inner = job->inner;
        job->inner = inner->next;
        inner->up = job->up;
        inner->next = job->up != NULL ? job->up->inner : NULL;
        if (job->up != NULL) {
            job->up->inner = inner;
        }
    }
}

/* So do those of its members that live on. Nobody will ask for their exit status. */
static void hand_up_wards(pj_reaper_job *job) {
    if (job->up != NULL) {
        forget_empty(job->up);
        job->up->lost = has_lost(job) || job->up->lost;
    }
    for (size_t i = 0; i < job->ward_count; i++) {
        pj_ward *ward = job->wards[i];
        pj_ward_say(ward, PJ_LEAVE);
        if (job->up != NULL && pj_ward_look(ward) != PJ_WARD_EMPTY && make_room(job->up)) {
            job->up->wards[job->up->ward_count++] = ward;
        } else {
            pj_ward_unref(ward);
        }
    }
    job->ward_count = 0;
}

void pj_reaper_prepare(pj_reaper_job *job, pj_ward *stolen) {
    pj_ward *before = atomic_exchange(&job->prepared, stolen);
    if (before != NULL) { /* an interrupted start: what became of it may just begin to live */
        pj_ward_say(before, PJ_END);
        pj_ward_say(before, PJ_LEAVE);
        pj_ward_unref(before);
    }
}

static void free_parts(pj_reaper_job *job) {
    pj_ward *prepared = atomic_exchange(&job->prepared, NULL);
    if (prepared != NULL) {
        pj_ward_unref(prepared);
    }
    for (size_t i = 0; i < job->ward_count; i++) {
        pj_ward_unref(job->wards[i]);
    }
    free(job->wards);
    free(job->guard);
    job->latest = NULL;
    job->wards = NULL;
    job->guard = NULL;
    job->ward_count = 0;
}

static void reap_orphans(pj_adoption *adoption) {
    pj_apart apart;
    pj_error unused;
    if (pj_adoption_look(adoption, NULL, 0, &apart, &unused) == 0) {
        pj_apart_free(&apart);
    }
}

void pj_reaper_close(pj_reaper_job *job) {
    pthread_mutex_lock(job->lock);
    if (job->up != NULL) {
        unlink_from(job->up, job);
    }
    job->latest = NULL;
    hand_up_inner(job);
    hand_up_wards(job);
    pj_reaper_prepare(job, NULL);
    free_parts(job);
    if (job->adoption != NULL) {
        reap_orphans(job->adoption);
        pj_adoption_end(job->adoption);
        job->adoption = NULL;
    }
    pthread_mutex_unlock(job->lock);
    pj_job_unref(&job->head);
}

void pj_reaper_abandon(pj_reaper_job *job) {
    if (job->owner == getpid()) { /* whoever is around it may still be asked for its members */
        pthread_mutex_lock(job->lock);
        if (job->up != NULL) {
            unlink_from(job->up, job);
        }
        pthread_mutex_unlock(job->lock);
    }
    free_parts(job);
    if (job->adoption != NULL) {
        pj_adoption_free(job->adoption);
    }
    pj_job_unref(&job->head);
}

/* ---- who is in it ---- */

void pj_reaper_say(pj_reaper_job *job, int kind) {
    pthread_mutex_lock(job->lock);
    for (pj_reaper_job *at = job; at != NULL; at = after(job, at)) {
        for (size_t i = 0; i < at->ward_count; i++) {
            pj_ward_say(at->wards[i], kind);
        }
    }
    pthread_mutex_unlock(job->lock);
}

unsigned long pj_reaper_births(pj_reaper_job *job) {
    pthread_mutex_lock(job->lock);
    unsigned long births = outermost(job)->births;
    pthread_mutex_unlock(job->lock);
    return births;
}

pj_ward *pj_reaper_latest(pj_reaper_job *job) {
    pthread_mutex_lock(job->lock);
    pj_ward *ward = job->latest != NULL ? pj_ward_ref(job->latest) : NULL;
    pthread_mutex_unlock(job->lock);
    return ward;
}

/* *adoption: that of the outermost job here that has one. */
static size_t count(pj_reaper_job *job, pj_adoption **adoption) {
    size_t wards = 0;
    for (pj_reaper_job *at = job; at != NULL; at = after(job, at)) {
        wards += at->ward_count;
        if (*adoption == NULL) {
            *adoption = at->adoption;
        }
    }
    return wards;
}

/* Whom a kill orphans comes to the caller, and was perhaps born after its crowd was taken. Without memory to note it
 * the kill goes on: a zombie is the lesser evil. */
static void note_orphans(void *arg, const pj_table *table) {
    pj_reaper_job *job = arg;
    pj_adoption *adoption = NULL;
    pj_error unused;
    pthread_mutex_lock(job->lock);
    (void)count(job, &adoption);
    if (adoption != NULL) {
        (void)pj_adoption_note(adoption, table, &unused);
    }
    pthread_mutex_unlock(job->lock);
}

static void add_wards(const pj_reaper_job *job, pj_crowd *to) {
    for (size_t i = 0; i < job->ward_count; i++) {
        pj_ward *ward = job->wards[i];
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
}

static int add_caller(pj_adoption *adoption, pj_crowd *to, pj_error *err) {
    pj_stat self;
    pj_apart apart;
    if (pj_procfs_stat(getpid(), &self, err) < 0 ||
        pj_adoption_look(adoption, to->roots, to->root_count, &apart, err) < 0) {
        return -1;
    }
    to->apart = apart;
    to->roots[to->root_count++] = (pj_process){.pid = self.pid, .handle = -1, .created = self.start};
    to->holds_caller = true;
    return 0;
}

static int take(pj_reaper_job *job, pj_crowd *to, pj_error *err) {
    pj_adoption *adoption = NULL;
    size_t most = count(job, &adoption) + 1;
    to->job = job;
    to->wards = malloc(most * sizeof(pj_ward *));
    to->roots = malloc(most * sizeof *to->roots);
    to->stumps = malloc(most * sizeof *to->stumps);
    if (to->wards == NULL || to->roots == NULL || to->stumps == NULL) {
        return pj_fail(err, ENOMEM, "malloc");
    }
    for (pj_reaper_job *at = job; at != NULL; at = after(job, at)) {
        add_wards(at, to);
    }
    return adoption != NULL ? add_caller(adoption, to, err) : 0;
}

int pj_crowd_take(pj_reaper_job *job, pj_crowd *out, pj_error *err) {
    pj_crowd crowd = {0};
    pthread_mutex_lock(job->lock);
    int result = take(job, &crowd, err);
    pthread_mutex_unlock(job->lock);
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
    pj_apart_free(&crowd->apart);
    *crowd = (pj_crowd){0};
}

pj_forest pj_crowd_trees(const pj_crowd *crowd) {
    return (pj_forest){.roots = crowd->roots,
                       .root_count = crowd->root_count,
                       .spared = crowd->apart.spared,
                       .spared_count = crowd->apart.spared_count,
                       .foreign = crowd->apart.foreign,
                       .foreign_count = crowd->apart.foreign_count,
                       .show = crowd->holds_caller ? note_orphans : NULL,
                       .arg = crowd->job};
}

pj_forest pj_crowd_stumps(const pj_crowd *crowd) {
    return (pj_forest){.roots = crowd->stumps, .root_count = crowd->stump_count, .with_roots = true};
}
