/* Which call is refused, and when: told by tests/windows/refusals.py. One thread at a time. */
#include "faults.h"

#include <string.h>

static char asked[64];
static long wanted, seen;
static DWORD error;

/* The number-th call of this name from now on; 0: none, they are only counted. Returns how many there were before. */
__declspec(dllexport) long pj_fault_ask(const char *call, long number, unsigned long code) {
    long before = seen;
    strncpy(asked, call, sizeof asked - 1);
    wanted = number;
    error = code;
    seen = 0;
    return before;
}

bool pj_fault(const char *call) {
    if (strcmp(call, asked) != 0 || ++seen != wanted) {
        return false;
    }
    SetLastError(error);
    return true;
}
