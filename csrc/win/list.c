/* Who is in a job. */
#include "win/job.h"

#include <stdlib.h>

enum { FIRST_ROOM = 64, MOST_ROOM = 1 << 22 };

/* What the call says about counts is to be trusted only when it succeeds; so the room is doubled until it does. The
 * list names active processes only: one whose handle is signaled has left it. */
static int query(HANDLE job, JOBOBJECT_BASIC_PROCESS_ID_LIST **out, pj_error *err) {
    for (size_t room = FIRST_ROOM; room <= MOST_ROOM; room *= 2) {
        DWORD size = (DWORD)(sizeof **out + room * sizeof(ULONG_PTR));
        JOBOBJECT_BASIC_PROCESS_ID_LIST *list = malloc(size);
        if (!list) {
            return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "malloc");
        }
        if (QueryInformationJobObject(job, JobObjectBasicProcessIdList, list, size, NULL)) {
            *out = list;
            return 0;
        }
        DWORD code = GetLastError();
        free(list);
        if (code != ERROR_MORE_DATA) {
            return pj_fail(err, (int)code, "QueryInformationJobObject");
        }
    }
    return pj_fail(err, ERROR_MORE_DATA, "QueryInformationJobObject");
}

int pj_win_list(pj_job *job, pj_pids *out, pj_error *err) {
    JOBOBJECT_BASIC_PROCESS_ID_LIST *list;
    pj_pids pids = {0};
    if (query(pj_win_job_of(job)->job, &list, err) < 0) {
        return -1;
    }
    for (DWORD at = 0; at < list->NumberOfProcessIdsInList; at++) {
        if (!pj_pids_add(&pids, (pj_pid)list->ProcessIdList[at])) {
            pj_pids_free(&pids);
            free(list);
            return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
        }
    }
    free(list);
    pj_pids_sort(&pids);
    *out = pids;
    return 0;
}

int pj_win_has(const pj_win_job *job, HANDLE process, bool *inside, pj_error *err) {
    BOOL member;
    if (!IsProcessInJob(process, job->job, &member)) { /* never with a NULL job: that asks about any job */
        return pj_fail(err, (int)GetLastError(), "IsProcessInJob");
    }
    *inside = member;
    return 0;
}

/* The dead are still "in the job" while they are pinned: so liveness is asked as well, and last. */
int pj_win_contains(pj_job *job, const pj_process *process, bool *out, pj_error *err) {
    bool inside;
    if (pj_win_has(pj_win_job_of(job), pj_handle_of(process), &inside, err) < 0) {
        return -1;
    }
    if (inside && pj_process_alive(process, &inside, err) < 0) {
        return -1;
    }
    *out = inside;
    return 0;
}

/* 0 also for a PID that was no member's any more, and for one that we may not open: it stays in the list of the others.
 */
static int pin_member(pj_win_job *job, pj_pid pid, pj_pins *pins, pj_error *err) {
    DWORD code;
    bool inside;
    HANDLE handle = pj_handle_pin(pid, &code);
    if (!handle) {
        return code == PJ_E_GONE || code == ERROR_ACCESS_DENIED ? 0 : pj_fail(err, (int)code, "OpenProcess");
    }
    if (pj_win_has(job, handle, &inside, err) < 0) {
        CloseHandle(handle);
        return -1;
    }
    if (!inside) {
        CloseHandle(handle);
        return 0;
    }
    if (!pj_pins_add(pins, pid, handle)) {
        CloseHandle(handle);
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
    }
    return 0;
}

int pj_win_gather(pj_win_job *job, pj_pids *others, pj_pins *pins, pj_error *err) {
    const pj_pid self = (pj_pid)GetCurrentProcessId();
    pj_pids list;
    if (pj_win_list(&job->base, &list, err) < 0) {
        return -1;
    }
    size_t kept = 0;
    int result = 0;
    for (size_t at = 0; result == 0 && at < list.count; at++) {
        if (list.items[at] != self) {
            list.items[kept++] = list.items[at];
            result = pin_member(job, list.items[at], pins, err);
        }
    }
    list.count = kept;
    if (result < 0) {
        pj_pids_free(&list);
        pj_pins_free(pins);
        return -1;
    }
    pj_pids_free(others);
    *others = list;
    return 0;
}
