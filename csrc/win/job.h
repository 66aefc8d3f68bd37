/* Inside of the backend job-object. */
#ifndef PJ_WIN_JOB_H
#define PJ_WIN_JOB_H

#include "core/backend.h"
#include "win/pins.h"

enum { PJ_NAME_ROOM = 512 }; /* "Local\pyjob-", a SID (at most 184), '-', 100 bytes of UTF-8, NUL */

/* A named job is two: the outer one carries the name and no limits, so that somebody who opens it never keeps the
 * members alive; the inner one, nested in it, is kill-on-close, and nobody but the owner has a handle to it. */
typedef struct {
    pj_job base;
    HANDLE job;   /* holds every member: what is listed, asked and ended */
    HANDLE inner; /* of a named job that kills on close; else NULL */
    SRWLOCK
    entrance; /* exclusive: the caller moves in; shared: the job is ended as a whole, if the caller is not inside */
    volatile LONG ends; /* how often its members were ended: spawn() looks whether that came in between */
    SRWLOCK leading;    /* over leaders */
    pj_pins leaders;    /* of the console process groups that spawn() started here or in a nested job */
} pj_win_job;

static inline pj_win_job *pj_win_job_of(pj_job *job) {
    return (pj_win_job *)job;
}

extern const pj_backend pj_job_object_backend;

/* names.c. `out` has room for PJ_NAME_ROOM. */
int pj_object_name(const char *name, wchar_t *out, pj_error *err);

/* job.c. The handles of the job and of those around it that `process` is not in yet, outermost first, as they have to
 * be assigned. *out: to be freed; NULL when there are none. */
int pj_win_levels(pj_win_job *job, HANDLE process, HANDLE **out, size_t *count, pj_error *err);
/* Moves it in, through all these levels. What an outer job has taken it keeps, when an inner one refuses. */
int pj_win_enter(pj_win_job *job, HANDLE process, pj_error *err);
int pj_win_has(const pj_win_job *job, HANDLE process, bool *inside, pj_error *err); /* living or dead */

/* list.c */
int pj_win_list(pj_job *job, pj_pids *out, pj_error *err);
int pj_win_contains(pj_job *job, const pj_process *process, bool *out, pj_error *err);
/* All members but the caller: *others, sorted; and those that we may pin, verified as members after they were pinned.
 */
int pj_win_gather(pj_win_job *job, pj_pids *others, pj_pins *pins, pj_error *err);

/* kill.c */
int pj_win_kill(pj_job *job, pj_deadline deadline, pj_pids *survivors, pj_error *err);
int pj_win_wait(pj_job *job, pj_deadline deadline, pj_error *err);
int pj_win_signal(pj_job *job, int sig, pj_error *err);

/* spawn.c */
int pj_win_spawn(pj_job *job, const pj_spec *spec, pj_child *out, pj_error *err);

/* leaders.c */
int pj_leaders_add(pj_win_job *job, pj_pid pid, HANDLE process, pj_error *err); /* here and in all jobs around it */
void pj_leaders_tell(pj_win_job *job, DWORD event);

#endif
