/* What the C tests share. A failed check ends the program with 1 and says where. */
#ifndef PJ_TESTS_CHECK_H
#define PJ_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what);                                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* For calls that fill a pj_error named err. */
#define OK(what)                                                                                                       \
    do {                                                                                                               \
        if ((what) < 0) {                                                                                              \
            fprintf(stderr, "%s:%d: %s: error %d in %s\n", __FILE__, __LINE__, #what, err.code, err.call);             \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        fprintf(stderr, "%s\n", #test);                                                                                \
        test();                                                                                                        \
    } while (0)

#endif
