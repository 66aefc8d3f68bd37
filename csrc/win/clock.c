#include "win/handle.h"

/* QueryPerformanceCounter(): monotonic, and never fails since Windows XP. Seconds and rest apart, so that it cannot
 * overflow. */
int64_t pj_now(void) {
    LARGE_INTEGER frequency, ticks;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&ticks);
    int64_t seconds = ticks.QuadPart / frequency.QuadPart, rest = ticks.QuadPart % frequency.QuadPart;
    return seconds * 1000 * PJ_MS + rest * 1000 * PJ_MS / frequency.QuadPart;
}

void pj_sleep(int64_t nanoseconds) {
    if (nanoseconds > 0) {
        int64_t milliseconds = (nanoseconds + PJ_MS - 1) / PJ_MS;
        Sleep(milliseconds < INFINITE ? (DWORD)milliseconds : INFINITE - 1);
    }
}
