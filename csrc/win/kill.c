/* Ending, awaiting and signalling the members of a job: list, pin, verify, act; again until a list names nobody.
 *
 * A completion port would add nothing: its messages may be lost, none of them means that the job is empty for good, and
 * a job has room for one port only. The pinned handles wake us; the list has the last word. */
#include "win/job.h"

#include <signal.h>

enum { DENIED_PAUSE_MS = 5 };

/* As a whole, in one call, unless the caller is inside. *whole: done so. */
static int end_whole(pj_win_job *job, bool *whole, pj_error *err) {
    bool inside;
    int result = 0;
    AcquireSRWLockShared(&job->entrance);
    if (pj_win_has(job, GetCurrentProcess(), &inside, err) < 0) {
        result = -1;
    } else if (!inside && !TerminateJobObject(job->job, PJ_EXIT_KILLED)) {
        result = pj_fail(err, (int)GetLastError(), "TerminateJobObject");
    }
    ReleaseSRWLockShared(&job->entrance);
    *whole = result == 0 && !inside;
    return result;
}

/* Refusals are passed over: whom we may not end, or who has just ended by itself. */
static void end_each(const pj_pins *pins, UINT code) {
    for (size_t at = 0; at < pins->count; at++) {
        TerminateProcess(pins->items[at].handle, code);
    }
}

static int end_once(pj_win_job *job, const pj_pins *pins, pj_error *err) {
    bool whole;
    InterlockedIncrement(&job->ends);
    if (end_whole(job, &whole, err) < 0) {
        return -1;
    }
    if (!whole) {
        end_each(pins, PJ_EXIT_KILLED);
    }
    return 0;
}

/* Waits for the pinned; where nobody could be pinned, for a moment. */
static void pause_for(pj_pins *pins, pj_deadline deadline) {
    if (pins->count == 0) {
        pj_sleep((int64_t)pj_left_ms(deadline, DENIED_PAUSE_MS) * PJ_MS);
    }
    pj_pins_wait(pins, deadline);
}

/* Whom a list names, and whose handle is not signaled though no list names it any more. */
static int name_survivors(pj_pids *others, const pj_pins *pins, pj_pids *out, pj_error *err) {
    for (size_t at = 0; at < pins->count; at++) {
        if (!pj_pids_add(others, pins->items[at].pid)) {
            return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
        }
    }
    pj_pids_sort(others);
    *out = *others;
    *others = (pj_pids){0};
    return 1;
}

int pj_win_kill(pj_job *base, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    pj_win_job *job = pj_win_job_of(base);
    pj_pids others = {0};
    pj_pins pins = {0};
    int result;
    for (bool tried = false;; tried = true) {
        result = pj_win_gather(job, &others, &pins, err);
        if (result < 0 || (others.count == 0 && pins.count == 0)) {
            break;
        }
        if (tried && pj_now() >= deadline) {
            result = name_survivors(&others, &pins, survivors, err);
            break;
        }
        result = end_once(job, &pins, err);
        if (result < 0) {
            break;
        }
        pause_for(&pins, deadline);
    }
    pj_pids_free(&others);
    pj_pins_free(&pins);
    return result;
}

int pj_win_wait(pj_job *base, pj_deadline deadline, pj_error *err) {
    pj_win_job *job = pj_win_job_of(base);
    pj_pids others = {0};
    pj_pins pins = {0};
    int result;
    while ((result = pj_win_gather(job, &others, &pins, err)) == 0 && others.count + pins.count > 0) {
        if (pj_now() >= deadline) {
            result = 1;
            break;
        }
        pause_for(&pins, deadline);
    }
    pj_pids_free(&others);
    pj_pins_free(&pins);
    return result;
}

int pj_win_signal(pj_job *base, int sig, pj_error *err) {
    pj_win_job *job = pj_win_job_of(base);
    if (sig == CTRL_C_EVENT || sig == CTRL_BREAK_EVENT) {
        pj_leaders_tell(job, (DWORD)sig);
        return 0;
    }
    if (sig != SIGTERM && sig != PJ_SIGKILL) {
        return pj_fail(err, ERROR_INVALID_PARAMETER, "signal");
    }
    pj_pids others = {0};
    pj_pins pins = {0};
    if (pj_win_gather(job, &others, &pins, err) < 0) {
        return -1;
    }
    InterlockedIncrement(&job->ends);
    end_each(&pins, (UINT)sig);
    pj_pids_free(&others);
    pj_pins_free(&pins);
    return 0;
}
