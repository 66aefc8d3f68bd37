/* The jobs of the reaper backend, and who is in them. */
#ifndef PJ_LINUX_REAPER_JOB_H
#define PJ_LINUX_REAPER_JOB_H

#include <pthread.h>

#include "core/backend.h"
#include "linux/adopt.h"
#include "linux/tree.h"
#include "linux/ward.h"

typedef struct pj_reaper_job {
    pj_job head;
    char *guard;                 /* path of its executable */
    pid_t owner;                 /* a forked child takes no lock: whoever holds it was not copied */
    _Atomic(pj_ward *) prepared; /* between prepare() and finish(); a forked child takes it without a lock */
    pthread_mutex_t *lock;    /* of all that follows in this job, those around it and those in it: one for them all */
    pthread_mutex_t own;      /* the outermost job's is the one */
    struct pj_reaper_job *up; /* the nearest job around it that is open, or NULL */
    struct pj_reaper_job *inner, *next;
    pj_ward **wards; /* of its programs, and of the closed jobs in it whose members live on */
    size_t ward_count, ward_room;
    pj_ward *latest;      /* whose exit status collect() asks for */
    unsigned long births; /* of the outermost job: programs started in them all */
    pj_adoption *adoption;
    bool lost; /* a guard that is not among the wards any more was killed before its tree had ended */
} pj_reaper_job;

int pj_reaper_new(const pj_create *how, const pj_backend *backend, pj_reaper_job **out, pj_error *err);
int pj_reaper_add(pj_reaper_job *job, pj_ward *stolen, pj_error *err);
void pj_reaper_close(
    pj_reaper_job *job); /* what lives on in it is from now on in the job around it. Ends with pj_job_unref() */
void pj_reaper_abandon(pj_reaper_job *job);                  /* ends with pj_job_unref(), too */
void pj_reaper_say(pj_reaper_job *job, int kind);            /* to the guards of this job and of those in it */
void pj_reaper_prepare(pj_reaper_job *job, pj_ward *stolen); /* or NULL; ends what finish() has not got before */
bool pj_reaper_lost(pj_reaper_job *job); /* whether a guard of this job or of one in it was killed so */
unsigned long pj_reaper_births(pj_reaper_job *job);
pj_ward *pj_reaper_latest(pj_reaper_job *job); /* a reference of its own, or NULL */

/* Who is in a job at one moment: what pj_forest_… needs. References and arrays of its own, so that no lock is held. */
typedef struct {
    pj_reaper_job *job;
    pj_ward **wards; /* whose trees may have members */
    size_t count;
    pj_process *roots; /* their guards, and the caller after assign_self() */
    size_t root_count;
    pj_process *stumps; /* programs whose guard was killed: they and what is below them can still be found */
    size_t stump_count;
    pj_apart apart;
    bool holds_caller;
} pj_crowd;

int pj_crowd_take(pj_reaper_job *job, pj_crowd *out, pj_error *err);
void pj_crowd_free(pj_crowd *crowd);

pj_forest pj_crowd_trees(const pj_crowd *crowd);  /* below the roots */
pj_forest pj_crowd_stumps(const pj_crowd *crowd); /* the stumps and what is below */

#endif
