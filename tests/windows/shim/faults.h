/* The seam: put before every file of an extension that bed.py builds for test_refusals.py. Each call of Windows' that
 * can refuse asks first whether it has to, this time. A name in parentheses is not a macro's. */
#ifndef PJ_SHIM_FAULTS_H
#define PJ_SHIM_FAULTS_H

#include "win/handle.h"

#include <malloc.h>
#include <sddl.h>
#include <stdlib.h>
#include <winternl.h>

/* Whether it has to; then GetLastError() is what was asked for. */
bool pj_fault(const char *call);

#define PJ_OR(call, refusal, ...) (pj_fault(#call) ? (refusal) : (call)(__VA_ARGS__))

#define AssignProcessToJobObject(...) PJ_OR(AssignProcessToJobObject, FALSE, __VA_ARGS__)
#define ConvertSidToStringSidW(...) PJ_OR(ConvertSidToStringSidW, FALSE, __VA_ARGS__)
#define CreateJobObjectW(...) PJ_OR(CreateJobObjectW, NULL, __VA_ARGS__)
#define CreateProcessW(...) PJ_OR(CreateProcessW, FALSE, __VA_ARGS__)
#define DuplicateHandle(...) PJ_OR(DuplicateHandle, FALSE, __VA_ARGS__)
#define GenerateConsoleCtrlEvent(...) PJ_OR(GenerateConsoleCtrlEvent, FALSE, __VA_ARGS__)
#define GetExitCodeProcess(...) PJ_OR(GetExitCodeProcess, FALSE, __VA_ARGS__)
#define GetProcessTimes(...) PJ_OR(GetProcessTimes, FALSE, __VA_ARGS__)
#define GetTokenInformation(...) PJ_OR(GetTokenInformation, FALSE, __VA_ARGS__)
#define InitializeProcThreadAttributeList(...) PJ_OR(InitializeProcThreadAttributeList, FALSE, __VA_ARGS__)
#define IsProcessInJob(...) PJ_OR(IsProcessInJob, FALSE, __VA_ARGS__)
#define MultiByteToWideChar(...) PJ_OR(MultiByteToWideChar, 0, __VA_ARGS__)
#define NtQuerySystemInformation(...)                                                                                  \
    PJ_OR(NtQuerySystemInformation, (NTSTATUS)0xC000009A /* INSUFFICIENT_RESOURCES */, __VA_ARGS__)
#define OpenJobObjectW(...) PJ_OR(OpenJobObjectW, NULL, __VA_ARGS__)
#define OpenProcess(...) PJ_OR(OpenProcess, NULL, __VA_ARGS__)
#define OpenProcessToken(...) PJ_OR(OpenProcessToken, FALSE, __VA_ARGS__)
#define QueryInformationJobObject(...) PJ_OR(QueryInformationJobObject, FALSE, __VA_ARGS__)
#define ResumeThread(...) PJ_OR(ResumeThread, (DWORD) - 1, __VA_ARGS__)
#define SetInformationJobObject(...) PJ_OR(SetInformationJobObject, FALSE, __VA_ARGS__)
#define TerminateJobObject(...) PJ_OR(TerminateJobObject, FALSE, __VA_ARGS__)
#define TerminateProcess(...) PJ_OR(TerminateProcess, FALSE, __VA_ARGS__)
#define UpdateProcThreadAttribute(...) PJ_OR(UpdateProcThreadAttribute, FALSE, __VA_ARGS__)
#define WaitForSingleObject(...) PJ_OR(WaitForSingleObject, WAIT_FAILED, __VA_ARGS__)
#define malloc(...) PJ_OR(malloc, NULL, __VA_ARGS__)
#define calloc(...) PJ_OR(calloc, NULL, __VA_ARGS__)
#define realloc(...) PJ_OR(realloc, NULL, __VA_ARGS__)

#endif
