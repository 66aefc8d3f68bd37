/* What a program is started with: the arguments of CreateProcessW(). */
#ifndef PJ_WIN_SPEC_H
#define PJ_WIN_SPEC_H

#include "core/backend.h"
#include "win/handle.h"

struct pj_spec {
    const wchar_t *application; /* or NULL */
    wchar_t *command_line;      /* CreateProcessW() may write into it */
    wchar_t *environment;       /* a block, UTF-16, ended by two NULs; or NULL: the caller's */
    const wchar_t *cwd;         /* or NULL */
    HANDLE *handles;            /* PROC_THREAD_ATTRIBUTE_HANDLE_LIST: only these are inherited; or NULL */
    size_t handle_count;
    bool use_std; /* STARTF_USESTDHANDLES with std */
    HANDLE std[3];
    DWORD flags;    /* STARTUPINFO.dwFlags */
    WORD show;      /* STARTUPINFO.wShowWindow */
    DWORD creation; /* dwCreationFlags */
    bool inherit;   /* bInheritHandles */
};

#endif
