/* Starting a program inside a job: with PROC_THREAD_ATTRIBUTE_JOB_LIST (Windows 10) it is a member before its first
 * instruction. Where the system refuses that (it does for packaged applications, which it puts into a job of its own),
 * the program is started suspended, moved in, and only then let run; if it cannot be moved in, it ends without having
 * run. */
#include "win/job.h"
#include "win/spec.h"

#include <stdlib.h>

enum { MOST_ATTRIBUTES = 2, MOST_ATTEMPTS = 16 };

static int set_attribute(LPPROC_THREAD_ATTRIBUTE_LIST list, DWORD_PTR which, HANDLE *handles, size_t count,
                         pj_error *err) {
    if (count > 0 && !UpdateProcThreadAttribute(list, 0, which, handles, count * sizeof *handles, NULL, NULL)) {
        return pj_fail(err, (int)GetLastError(), "UpdateProcThreadAttribute");
    }
    return 0;
}

/* The list refers to `jobs` and to spec->handles: they must outlive it. */
static int new_attributes(const pj_spec *spec, HANDLE *jobs, size_t count, LPPROC_THREAD_ATTRIBUTE_LIST *out,
                          pj_error *err) {
    SIZE_T size = 0;
    if (!InitializeProcThreadAttributeList(NULL, MOST_ATTRIBUTES, 0, &size) &&
        GetLastError() != ERROR_INSUFFICIENT_BUFFER) { /* which tells the size */
        return pj_fail(err, (int)GetLastError(), "InitializeProcThreadAttributeList");
    }
    LPPROC_THREAD_ATTRIBUTE_LIST list = malloc(size);
    if (!list) {
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "malloc");
    }
    if (!InitializeProcThreadAttributeList(list, MOST_ATTRIBUTES, 0, &size)) {
        DWORD code = GetLastError();
        free(list);
        return pj_fail(err, (int)code, "InitializeProcThreadAttributeList");
    }
    if (set_attribute(list, PROC_THREAD_ATTRIBUTE_JOB_LIST, jobs, count, err) < 0 ||
        set_attribute(list, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, spec->handles, spec->handle_count, err) < 0) {
        DeleteProcThreadAttributeList(list);
        free(list);
        return -1;
    }
    *out = list;
    return 0;
}

static int create_process(const pj_spec *spec, LPPROC_THREAD_ATTRIBUTE_LIST attributes, DWORD extra,
                          PROCESS_INFORMATION *out, pj_error *err) {
    STARTUPINFOEXW info = {.StartupInfo = {.cb = sizeof info, .dwFlags = spec->flags, .wShowWindow = spec->show}};
    info.lpAttributeList = attributes;
    if (spec->use_std) {
        info.StartupInfo.dwFlags |= STARTF_USESTDHANDLES;
        info.StartupInfo.hStdInput = spec->std[0];
        info.StartupInfo.hStdOutput = spec->std[1];
        info.StartupInfo.hStdError = spec->std[2];
    }
    DWORD creation = spec->creation | EXTENDED_STARTUPINFO_PRESENT | CREATE_UNICODE_ENVIRONMENT | extra;
    if (!CreateProcessW(spec->application, spec->command_line, NULL, NULL, spec->inherit, creation, spec->environment,
                        spec->cwd, &info.StartupInfo, out)) {
        return pj_fail(err, (int)GetLastError(), "CreateProcessW");
    }
    return 0;
}

static int start(const pj_spec *spec, HANDLE *jobs, size_t count, DWORD extra, PROCESS_INFORMATION *out,
                 pj_error *err) {
    LPPROC_THREAD_ATTRIBUTE_LIST attributes;
    if (new_attributes(spec, jobs, count, &attributes, err) < 0) {
        return -1;
    }
    int result = create_process(spec, attributes, extra, out, err);
    DeleteProcThreadAttributeList(attributes);
    free(attributes);
    return result;
}

/* Ends a program that must not stay, and waits until it is gone. */
static void undo(PROCESS_INFORMATION *program) {
    TerminateProcess(program->hProcess, PJ_EXIT_KILLED);
    WaitForSingleObject(program->hProcess, INFINITE);
    CloseHandle(program->hThread);
    CloseHandle(program->hProcess);
}

static int start_suspended(pj_win_job *job, const pj_spec *spec, PROCESS_INFORMATION *out, pj_error *err) {
    PROCESS_INFORMATION program;
    if (start(spec, NULL, 0, CREATE_SUSPENDED, &program, err) < 0) {
        return -1;
    }
    int result = pj_win_enter(job, program.hProcess, err);
    if (result == 0 && !(spec->creation & CREATE_SUSPENDED) && ResumeThread(program.hThread) == (DWORD)-1) {
        result = pj_fail(err, (int)GetLastError(), "ResumeThread");
    }
    if (result < 0) {
        undo(&program);
        return -1;
    }
    *out = program;
    return 0;
}

static bool refuses_job_list(const pj_error *err) {
    return err->code == ERROR_ACCESS_DENIED || err->code == ERROR_NOT_SUPPORTED || err->code == ERROR_INVALID_PARAMETER;
}

/* Also where another thread has moved the caller in meanwhile (assign_self()): the second look finds it inside. */
static int start_inside(pj_win_job *job, const pj_spec *spec, PROCESS_INFORMATION *out, const char **path,
                        pj_error *err) {
    HANDLE *levels;
    size_t count;
    if (pj_win_levels(job, GetCurrentProcess(), &levels, &count, err) < 0) {
        return -1;
    }
    *path = "job-list";
    int result = start(spec, levels, count, 0, out, err);
    free(levels);
    if (result < 0 && refuses_job_list(err)) {
        *path = "suspended";
        result = start_suspended(job, spec, out, err);
    }
    return result;
}

/* How often this job and those around it were ended so far. */
static LONG count_ends(pj_job *job) {
    LONG count = 0;
    for (; job; job = job->parent) {
        count += InterlockedCompareExchange(&pj_win_job_of(job)->ends, 0, 0);
    }
    return count;
}

/* A kill() that comes while CreateProcessW() is at work makes that fail, with an error that says nothing of it. What is
 * started after that kill is none of its business: so the start is tried again. */
static int start_anew(pj_win_job *job, const pj_spec *spec, PROCESS_INFORMATION *out, const char **path,
                      pj_error *err) {
    LONG before, after = count_ends(&job->base);
    int result, attempts = 0;
    do {
        before = after;
        result = start_inside(job, spec, out, path, err);
        after = count_ends(&job->base);
    } while (result < 0 && before != after && ++attempts < MOST_ATTEMPTS);
    return result;
}

int pj_win_spawn(pj_job *base, const pj_spec *spec, pj_child *out, pj_error *err) {
    pj_win_job *job = pj_win_job_of(base);
    PROCESS_INFORMATION program;
    FILETIME created = {0}, exited, kernel, user;
    const char *path;
    if (start_anew(job, spec, &program, &path, err) < 0) {
        return -1;
    }
    if (spec->creation & CREATE_NEW_PROCESS_GROUP &&
        pj_leaders_add(job, program.dwProcessId, program.hProcess, err) < 0) {
        undo(&program);
        return -1;
    }
    GetProcessTimes(program.hProcess, &created, &exited, &kernel, &user); /* cannot fail on a handle with all rights */
    *out = (pj_child){
        .process = {.pid = program.dwProcessId, .handle = (intptr_t)program.hProcess, .created = pj_filetime(&created)},
        .thread = (intptr_t)program.hThread,
        .thread_id = program.dwThreadId,
        .path = path,
        .stage = "",
    };
    return 0;
}
