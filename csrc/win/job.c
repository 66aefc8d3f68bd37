/* The backend job-object: its life, and who moves in. */
#include "win/job.h"

#include <stdlib.h>

static void probe(const char *guard, pj_probe *out) {
    (void)guard;
    *out = (pj_probe){
        .available = true,
        .guarantees = PJ_INHERITED | PJ_ESCAPE_PROOF | PJ_DIES_WITH_OWNER | PJ_ATOMIC_KILL | PJ_OWN_CHILD | PJ_ASSIGN |
                      PJ_NAMED | PJ_COMPLETE_LIST | PJ_PINNED,
    };
}

/* Limits are written whole, from what we know of our own job, never read before: kill-on-close is the only one. It is a
 * limit of the extended class. */
static int set_kill_on_close(HANDLE job, bool on, pj_error *err) {
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = on ? JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE : 0;
    if (!SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits)) {
        return pj_fail(err, (int)GetLastError(), "SetInformationJobObject");
    }
    return 0;
}

/* The handle whose last close ends the members. */
static HANDLE owned(const pj_win_job *job) {
    return job->inner ? job->inner : job->job;
}

static void free_job(pj_win_job *job) {
    pj_pins_free(&job->leaders);
    pj_handle_close(job->inner);
    pj_handle_close(job->job);
    free(job);
}

static pj_win_job *new_job(pj_job *parent, bool keep) {
    pj_win_job *job = calloc(1, sizeof *job);
    if (job) {
        job->base = (pj_job){.backend = &pj_job_object_backend, .parent = parent, .keep = keep};
        InitializeSRWLock(&job->entrance);
        InitializeSRWLock(&job->leading);
    }
    return job;
}

/* CreateJobObjectW() with NULL attributes: no child inherits the handle. A name that exists is opened, and
 * GetLastError() says so; one that an object of another kind has gives ERROR_INVALID_HANDLE. */
static HANDLE create_object(const wchar_t *name, pj_error *err) {
    HANDLE job = CreateJobObjectW(NULL, name);
    DWORD code = GetLastError();
    if (job && !(name && code == ERROR_ALREADY_EXISTS)) {
        return job;
    }
    pj_handle_close(job);
    pj_fail(err, code == ERROR_INVALID_HANDLE ? ERROR_ALREADY_EXISTS : (int)code, "CreateJobObjectW");
    return NULL;
}

static int create(const pj_create *how, pj_job **out, pj_error *err) {
    wchar_t name[PJ_NAME_ROOM];
    if (how->name && pj_object_name(how->name, name, err) < 0) {
        return -1;
    }
    pj_win_job *job = new_job(how->parent, how->keep);
    if (!job) {
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "calloc");
    }
    job->job = create_object(how->name ? name : NULL, err);
    if (!job->job) {
        goto error;
    }
    if (how->name && !how->keep && !(job->inner = create_object(NULL, err))) {
        goto error;
    }
    if (!how->keep && set_kill_on_close(owned(job), true, err) < 0) {
        goto error;
    }
    *out = &job->base;
    return 0;
error:
    free_job(job);
    return -1;
}

/* A name that an object of another kind has is no job's: not found. */
static int open_named(const char *given, pj_job **out, pj_error *err) {
    wchar_t name[PJ_NAME_ROOM];
    if (pj_object_name(given, name, err) < 0) {
        return -1;
    }
    pj_win_job *job = new_job(NULL, true);
    if (!job) {
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "calloc");
    }
    job->job = OpenJobObjectW(JOB_OBJECT_QUERY | JOB_OBJECT_TERMINATE | SYNCHRONIZE, FALSE, name);
    if (!job->job) {
        DWORD code = GetLastError();
        free_job(job);
        return pj_fail(err, code == ERROR_INVALID_HANDLE ? ERROR_FILE_NOT_FOUND : (int)code, "OpenJobObjectW");
    }
    *out = &job->base;
    return 0;
}

/* A child inherits the jobs of its parent, and assigning a process to a job that it is in already is refused: so we go
 * outwards only until the first job that the process is in; it is in all those around that one. */
int pj_win_levels(pj_win_job *job, HANDLE process, HANDLE **out, size_t *count, pj_error *err) {
    size_t room = 0, left;
    for (pj_job *level = &job->base; level; level = level->parent) {
        room += 2;
    }
    HANDLE *handles = malloc(room * sizeof *handles);
    if (!handles) {
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "malloc");
    }
    left = room;
    for (pj_job *level = &job->base; level; level = level->parent) {
        pj_win_job *at = pj_win_job_of(level);
        bool inside;
        if (pj_win_has(at, process, &inside, err) < 0) {
            free(handles);
            return -1;
        }
        if (inside) {
            break;
        }
        if (at->inner) {
            handles[--left] = at->inner;
        }
        handles[--left] = at->job;
    }
    *count = room - left;
    for (size_t at = 0; at < *count; at++) {
        handles[at] = handles[left + at];
    }
    *out = handles;
    return 0;
}

int pj_win_enter(pj_win_job *job, HANDLE process, pj_error *err) {
    HANDLE *levels;
    size_t count;
    if (pj_win_levels(job, process, &levels, &count, err) < 0) {
        return -1;
    }
    int result = 0;
    for (size_t at = 0; result == 0 && at < count; at++) {
        if (!AssignProcessToJobObject(levels[at], process)) {
            result = pj_fail(err, (int)GetLastError(), "AssignProcessToJobObject");
        }
    }
    free(levels);
    return result;
}

/* The system refuses a process that has ended with ERROR_ACCESS_DENIED: that is told apart here. */
static int assign(pj_job *job, const pj_process *process, pj_error *err) {
    int result = pj_win_enter(pj_win_job_of(job), pj_handle_of(process), err);
    if (!pj_handle_alive(pj_handle_of(process))) {
        return pj_fail(err, PJ_E_GONE, "AssignProcessToJobObject");
    }
    return result;
}

static void note_caller(pj_job *job) {
    for (pj_job *level = job; level; level = level->parent) {
        level->holds_caller = true;
        level->denied |= PJ_ATOMIC_KILL;
    }
}

/* The entrances are locked from the inside out, so that nobody ends as a whole a job that the caller is just moving
 * into. */
static int assign_self(pj_job *job, pj_error *err) {
    for (pj_job *level = job; level; level = level->parent) {
        AcquireSRWLockExclusive(&pj_win_job_of(level)->entrance);
    }
    int result = pj_win_enter(pj_win_job_of(job), GetCurrentProcess(), err);
    if (result == 0) {
        note_caller(job);
    }
    for (pj_job *level = job; level; level = level->parent) {
        ReleaseSRWLockExclusive(&pj_win_job_of(level)->entrance);
    }
    return result;
}

static int release(pj_job *base, pj_error *err) {
    if (!base->keep && set_kill_on_close(owned(pj_win_job_of(base)), false, err) < 0) {
        return -1;
    }
    base->keep = true;
    return 0;
}

static bool ends_caller(pj_win_job *job) {
    pj_error err;
    bool inside;
    return !job->base.keep && (pj_win_has(job, GetCurrentProcess(), &inside, &err) < 0 || inside);
}

/* The last handle to a kill-on-close job must not be closed from inside: it would end the caller. So its limit goes
 * first; and if the limit will not go, the handle stays open for the system to close it when the caller has ended. */
static void close_job(pj_job *base) {
    pj_win_job *job = pj_win_job_of(base);
    pj_error err;
    if (ends_caller(job) && release(base, &err) < 0) {
        return;
    }
    free_job(job);
}

/* At the end of the interpreter. With the caller inside, its end is what closes the job: only then do the members go
 * too. */
static void abandon(pj_job *base) {
    pj_win_job *job = pj_win_job_of(base);
    if (!ends_caller(job)) {
        free_job(job);
    }
}

const pj_backend pj_job_object_backend = {
    .name = "job-object",
    .probe = probe,
    .create = create,
    .open = open_named,
    .spawn = pj_win_spawn,
    .assign = assign,
    .assign_self = assign_self,
    .list = pj_win_list,
    .contains = pj_win_contains,
    .signal = pj_win_signal,
    .kill = pj_win_kill,
    .wait = pj_win_wait,
    .release = release,
    .close = close_job,
    .abandon = abandon,
};
