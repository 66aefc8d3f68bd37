/* Names are per user, in the namespace of the logon session: Local\pyjob-<SID>-<name>. */
#include "win/job.h"

#include <sddl.h>
#include <wchar.h>

static int user_sid(wchar_t **out, pj_error *err) {
    union {
        TOKEN_USER user;
        BYTE room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } token;
    HANDLE handle;
    DWORD length;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &handle)) {
        return pj_fail(err, (int)GetLastError(), "OpenProcessToken");
    }
    DWORD code = GetTokenInformation(handle, TokenUser, &token, sizeof token, &length) ? 0 : GetLastError();
    CloseHandle(handle);
    if (code) {
        return pj_fail(err, (int)code, "GetTokenInformation");
    }
    if (!ConvertSidToStringSidW(token.user.User.Sid, out)) {
        return pj_fail(err, (int)GetLastError(), "ConvertSidToStringSidW");
    }
    return 0;
}

int pj_object_name(const char *name, wchar_t *out, pj_error *err) {
    static const wchar_t prefix[] = L"Local\\pyjob-";
    wchar_t *sid;
    if (user_sid(&sid, err) < 0) {
        return -1;
    }
    size_t head = sizeof prefix / sizeof *prefix - 1, length = wcslen(sid);
    wmemcpy(out, prefix, head);
    wmemcpy(out + head, sid, length);
    LocalFree(sid);
    out[head + length] = L'-';
    head += length + 1;
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, out + head, (int)(PJ_NAME_ROOM - head))) {
        return pj_fail(err, (int)GetLastError(), "MultiByteToWideChar");
    }
    return 0;
}
