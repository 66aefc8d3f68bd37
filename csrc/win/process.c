/* One process by identity: its handle. */
#include "win/pins.h"

#include <signal.h>

int pj_process_open(pj_pid pid, pj_process *out, pj_error *err) {
    DWORD code;
    HANDLE handle = pj_handle_pin(pid, &code);
    if (!handle) {
        return pj_fail(err, (int)code, "OpenProcess");
    }
    FILETIME created, exited, kernel, user;
    if (!GetProcessTimes(handle, &created, &exited, &kernel, &user)) {
        code = GetLastError();
        CloseHandle(handle);
        return pj_fail(err, (int)code, "GetProcessTimes");
    }
    *out = (pj_process){.pid = pid, .handle = (intptr_t)handle, .created = pj_filetime(&created)};
    return 0;
}

int pj_process_pin(pj_pid pid, pj_process *out, pj_error *err) {
    return pj_process_open(pid, out, err);
}

void pj_process_close(pj_process *process) {
    if (process->handle != -1) {
        CloseHandle(pj_handle_of(process));
        process->handle = -1;
    }
}

int pj_process_alive(const pj_process *process, bool *alive, pj_error *err) {
    DWORD state = WaitForSingleObject(pj_handle_of(process), 0);
    if (state == WAIT_FAILED) {
        return pj_fail(err, (int)GetLastError(), "WaitForSingleObject");
    }
    *alive = state == WAIT_TIMEOUT;
    return 0;
}

int pj_process_signal(const pj_process *process, int sig, pj_error *err) {
    HANDLE handle = pj_handle_of(process);
    if (!pj_handle_alive(handle)) {
        return pj_fail(err, PJ_E_GONE, "TerminateProcess");
    }
    if (sig == CTRL_C_EVENT || sig == CTRL_BREAK_EVENT) {
        if (!GenerateConsoleCtrlEvent((DWORD)sig, (DWORD)process->pid)) {
            return pj_fail(err, (int)GetLastError(), "GenerateConsoleCtrlEvent");
        }
        return 0;
    }
    if (sig != SIGTERM && sig != PJ_SIGKILL) {
        return pj_fail(err, ERROR_INVALID_PARAMETER, "signal");
    }
    if (!TerminateProcess(handle, (UINT)sig)) {
        DWORD code = GetLastError(); /* ERROR_ACCESS_DENIED also of a process that is about to end */
        return pj_fail(err, pj_handle_alive(handle) ? (int)code : PJ_E_GONE, "TerminateProcess");
    }
    return 0;
}

int pj_process_wait(const pj_process *process, pj_deadline deadline, int *status, bool *known, pj_error *err) {
    HANDLE handle = pj_handle_of(process);
    DWORD state = WAIT_TIMEOUT, code;
    do {
        state = WaitForSingleObject(handle, (DWORD)pj_left_ms(deadline, INT32_MAX));
    } while (state == WAIT_TIMEOUT && pj_now() < deadline);
    if (state == WAIT_TIMEOUT) {
        return 1;
    }
    if (state != WAIT_OBJECT_0) {
        return pj_fail(err, (int)GetLastError(), "WaitForSingleObject");
    }
    if (!GetExitCodeProcess(handle, &code)) {
        return pj_fail(err, (int)GetLastError(), "GetExitCodeProcess");
    }
    *status = (int)code;
    *known = true;
    return 0;
}

uint64_t pj_process_unique(const pj_process *process) {
    (void)process;
    return 0;
}

/* FILETIME counts 100 ns from 1601; the epoch lies 11,644,473,600 seconds later. */
pj_pid pj_process_self(void) {
    return (pj_pid)GetCurrentProcessId();
}

int pj_process_created(const pj_process *process, double *seconds, pj_error *err) {
    (void)err;
    *seconds = (double)((int64_t)process->created - 116444736000000000) / 1e7;
    return 0;
}
