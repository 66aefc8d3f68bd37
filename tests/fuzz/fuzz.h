/* What the harnesses share: libFuzzer's entry, and a check that tells where. See test_fuzz.py. */
#ifndef PJ_TESTS_FUZZ_H
#define PJ_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what);                                         \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* `data` has exactly `size` bytes, so that a sanitizer sees a byte too far. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that ends with NUL; the caller frees it. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    return text;
}

#endif
