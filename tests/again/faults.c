/* Linked into the sanitized extension, so that a test can call what the sanitizers have to see there. */
#pragma GCC diagnostic ignored "-Wuse-after-free"
#include <limits.h>
#include <stdlib.h>

static volatile int number = INT_MAX;

int use_after_free(void) {
    volatile char *gone = malloc(1);
    free((void *)gone);
    return *gone;
}

int overflow(void) {
    return number + 1;
}

/* Long enough for two threads to be in here at once. */
int race(void) {
    for (int i = 0; i < 10 * 1000 * 1000; i++) {
        number = i;
    }
    return 0;
}
