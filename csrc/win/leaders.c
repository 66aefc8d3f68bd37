/* Console events are aimed at process groups. An event for a PID that leads no group reaches everybody on the console:
 * so only those that we started as leaders (CREATE_NEW_PROCESS_GROUP) are ever told, pinned, and while they live. */
#include "win/job.h"

static int add(pj_win_job *job, pj_pid pid, HANDLE process, pj_error *err) {
    HANDLE self = GetCurrentProcess(), copy;
    if (!DuplicateHandle(self, process, self, &copy, 0, FALSE, DUPLICATE_SAME_ACCESS)) {
        return pj_fail(err, (int)GetLastError(), "DuplicateHandle");
    }
    AcquireSRWLockExclusive(&job->leading);
    pj_pins_wait(&job->leaders, 0); /* drops the dead, so that the list stays as short as the job */
    bool added = pj_pins_add(&job->leaders, pid, copy);
    ReleaseSRWLockExclusive(&job->leading);
    if (!added) {
        CloseHandle(copy);
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "realloc");
    }
    return 0;
}

int pj_leaders_add(pj_win_job *job, pj_pid pid, HANDLE process, pj_error *err) {
    for (pj_job *level = &job->base; level; level = level->parent) {
        if (add(pj_win_job_of(level), pid, process, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A leader that is on another console cannot be told: passed over. */
void pj_leaders_tell(pj_win_job *job, DWORD event) {
    AcquireSRWLockExclusive(&job->leading);
    pj_pins_wait(&job->leaders, 0);
    for (size_t at = 0; at < job->leaders.count; at++) {
        GenerateConsoleCtrlEvent(event, (DWORD)job->leaders.items[at].pid);
    }
    ReleaseSRWLockExclusive(&job->leading);
}
