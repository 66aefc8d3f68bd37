#include "win/pins.h"

#include <stdlib.h>

HANDLE pj_handle_pin(pj_pid pid, DWORD *code) {
    /* Wine's IsProcessInJob() wants PROCESS_QUERY_INFORMATION; Windows is content with the LIMITED one, which alone is
     * granted on protected processes. */
    static const DWORD rights[] = {
        SYNCHRONIZE | PROCESS_TERMINATE | PROCESS_SET_QUOTA | PROCESS_QUERY_INFORMATION,
        SYNCHRONIZE | PROCESS_TERMINATE | PROCESS_SET_QUOTA | PROCESS_QUERY_LIMITED_INFORMATION,
        SYNCHRONIZE | PROCESS_TERMINATE | PROCESS_QUERY_LIMITED_INFORMATION,
        SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION,
    };
    if (pid <= 0 || pid > UINT32_MAX) {
        *code = PJ_E_GONE;
        return NULL;
    }
    HANDLE handle = NULL;
    *code = ERROR_ACCESS_DENIED;
    for (size_t at = 0; !handle && *code == ERROR_ACCESS_DENIED && at < sizeof rights / sizeof *rights; at++) {
        handle = OpenProcess(rights[at], FALSE, (DWORD)pid);
        *code = handle ? 0 : GetLastError();
    }
    if (*code == ERROR_INVALID_PARAMETER) {
        *code = PJ_E_GONE;
    }
    if (handle && GetProcessId(handle) != (DWORD)pid) { /* OpenProcess() ignores the two lowest bits of a PID */
        CloseHandle(handle);
        handle = NULL;
        *code = PJ_E_GONE;
    }
    return handle;
}

bool pj_pins_add(pj_pins *pins, pj_pid pid, HANDLE handle) {
    if (pins->count == pins->room) {
        size_t room = pins->room ? 2 * pins->room : 64;
        pj_pin *items = realloc(pins->items, room * sizeof *items);
        if (!items) {
            return false;
        }
        pins->items = items;
        pins->room = room;
    }
    pins->items[pins->count++] = (pj_pin){pid, handle};
    return true;
}

/* One after the other: all of them are waited for, and WaitForMultipleObjects() takes 64 at most. */
void pj_pins_wait(pj_pins *pins, pj_deadline deadline) {
    size_t kept = 0;
    for (size_t at = 0; at < pins->count; at++) {
        if (WaitForSingleObject(pins->items[at].handle, (DWORD)pj_left_ms(deadline, INT32_MAX)) == WAIT_OBJECT_0) {
            CloseHandle(pins->items[at].handle);
        } else {
            pins->items[kept++] = pins->items[at];
        }
    }
    pins->count = kept;
}

void pj_pins_free(pj_pins *pins) {
    for (size_t at = 0; at < pins->count; at++) {
        CloseHandle(pins->items[at].handle);
    }
    free(pins->items);
    *pins = (pj_pins){0};
}
