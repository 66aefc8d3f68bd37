#include <stdlib.h>

#include "posix/group.h"

const pj_backend *const pj_backends[] = {&pj_group_backend, NULL};

/* Process groups need nothing that is kept for the whole process. */
struct pj_platform {
    char nothing;
};

pj_platform *pj_platform_new(void) {
    return calloc(1, sizeof(pj_platform));
}

void pj_platform_free(pj_platform *platform) {
    free(platform);
}

void pj_platform_forked(pj_platform *platform) {
    (void)platform;
}
