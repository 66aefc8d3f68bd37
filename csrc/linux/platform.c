/* What the backends keep for the whole process. */
#define _GNU_SOURCE 1
#include <stdlib.h>

#include "linux/root.h"

pj_platform *pj_platform_new(void) {
    pj_platform *platform = calloc(1, sizeof *platform);
    if (platform) {
        pthread_mutex_init(&platform->lock, NULL);
    }
    return platform;
}

static void free_texts(pj_platform *platform) {
    for (pj_text *next, *at = platform->texts; at; at = next) {
        next = at->next;
        free(at);
    }
}

void pj_platform_free(pj_platform *platform) {
    if (platform) {
        pj_root_end(platform);
        pthread_mutex_destroy(&platform->lock);
        free_texts(platform);
        free(platform);
    }
}

/* The lock may be held by a thread that the fork did not copy: it is made anew. */
void pj_platform_forked(pj_platform *platform) {
    if (platform) {
        pthread_mutex_init(&platform->lock, NULL);
        pj_root_unref(platform->root);
        platform->root = NULL;
    }
}
