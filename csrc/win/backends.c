#include "win/job.h"

#include <stdlib.h>

const pj_backend *const pj_backends[] = {&pj_job_object_backend, NULL};

/* The kernel keeps the jobs: there is nothing to be kept for the whole process. */
struct pj_platform {
    char nothing;
};

pj_platform *pj_platform_new(void) {
    return calloc(1, sizeof(pj_platform));
}

void pj_platform_free(pj_platform *platform) {
    free(platform);
}

/* Windows has no fork(). */
void pj_platform_forked(pj_platform *platform) {
    (void)platform;
}
