/* Absolute deadlines on the monotonic clock, in nanoseconds. */
#ifndef PJ_CORE_DEADLINE_H
#define PJ_CORE_DEADLINE_H

#include <stdint.h>

typedef int64_t pj_deadline;

#define PJ_NEVER INT64_MAX
#define PJ_MS ((int64_t)1000000)

/* posix/clock.c, win/clock.c */
int64_t pj_now(void);
void pj_sleep(int64_t nanoseconds); /* may return early, on a signal */

/* Milliseconds left for poll() and WaitForSingleObject(): 0 when passed, rounded up, at most `most`. */
static inline int pj_left_ms(pj_deadline deadline, int most) {
    int64_t left = deadline == PJ_NEVER ? INT64_MAX : deadline - pj_now();
    if (left <= 0) {
        return 0;
    }
    return left / PJ_MS >= most ? most : (int)((left + PJ_MS - 1) / PJ_MS);
}

static inline pj_deadline pj_earlier(pj_deadline a, pj_deadline b) {
    return a < b ? a : b;
}

#endif
