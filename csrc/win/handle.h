/* The one place that includes <windows.h>, and small helpers over handles. */
#ifndef PJ_WIN_HANDLE_H
#define PJ_WIN_HANDLE_H

#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00 /* Windows 10: PROC_THREAD_ATTRIBUTE_JOB_LIST */
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include "core/process.h"

enum {
    PJ_SIGKILL = 9,     /* Windows' <signal.h> has SIGTERM (15) only */
    PJ_EXIT_KILLED = 1, /* of whom a job ends: the exit code that Popen.kill() of the stock gives. Whom a
                         * signal ends has the signal's number, as with os.kill() */
    /* A process that is no more. OpenProcess() says ERROR_INVALID_PARAMETER of a PID that nobody has; told apart here,
     * by the bit that is left to applications, from the same code of any other call. */
    PJ_E_GONE = 0x20000000 | ERROR_INVALID_PARAMETER,
};

static inline HANDLE pj_handle_of(const pj_process *process) {
    return (HANDLE)process->handle;
}

/* A process handle is signaled from the very end on; until then the process lives, and so it does where we cannot be
 * told. */
static inline bool pj_handle_alive(HANDLE process) {
    return WaitForSingleObject(process, 0) != WAIT_OBJECT_0;
}

static inline void pj_handle_close(HANDLE handle) {
    if (handle) {
        CloseHandle(handle);
    }
}

static inline uint64_t pj_filetime(const FILETIME *time) {
    return (uint64_t)time->dwHighDateTime << 32 | time->dwLowDateTime;
}

#endif
