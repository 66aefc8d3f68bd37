#define _GNU_SOURCE 1
#include <time.h>

#include "core/deadline.h"

enum { NANOSECONDS = 1000000000 };

int64_t pj_now(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail: the clock exists and the pointer is good */
    return (int64_t)now.tv_sec * NANOSECONDS + now.tv_nsec;
}

void pj_sleep(int64_t nanoseconds) {
    struct timespec pause = {.tv_sec = (time_t)(nanoseconds / NANOSECONDS),
                             .tv_nsec = (long)(nanoseconds % NANOSECONDS)};
    if (nanoseconds > 0) {
        nanosleep(&pause, NULL);
    }
}
