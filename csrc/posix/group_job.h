/* A job of the backend process-group: what group.c (starting, collecting, letting go) and group_members.c (looking and
 * acting) share. */
#ifndef PJ_POSIX_GROUP_JOB_H
#define PJ_POSIX_GROUP_JOB_H

#include "core/family.h"
#include "posix/group.h"
#include "posix/program.h"

/* Written by a child that subprocess forked by itself, read by us. */
typedef struct {
    volatile pj_pid pid; /* 0: nobody joined */
    uint64_t created;
} pj_group_joined;

typedef struct {
    pj_job head;
    pj_kin kin;              /* its lock guards the programs, too */
    pj_program *programs;    /* in the order of their start */
    pj_group_joined *joined; /* memory shared with forked children */
} pj_group_job;

static inline pj_group_job *pj_group_of(pj_job *job) {
    return (pj_group_job *)job;
}

/* NULL: out of memory; else `process` and `terminal` are taken over. */
pj_program *pj_group_program(const pj_process *process, pj_pid group, int terminal);

/* With the lock held. pj_group_adopt(): who came in by join() becomes a program like any other. */
void pj_group_append(pj_group_job *job, pj_program *program);
int pj_group_adopt(pj_group_job *job, pj_error *err);

/* The operations of core/backend.h. */
int pj_group_list(pj_job *base, pj_pids *out, pj_error *err);
int pj_group_contains(pj_job *base, const pj_process *process, bool *out, pj_error *err);
int pj_group_send(pj_job *base, int sig, pj_error *err);
int pj_group_kill(pj_job *base, pj_deadline deadline, pj_pids *survivors, pj_error *err);
int pj_group_wait(pj_job *base, pj_deadline deadline, pj_error *err);

#endif
