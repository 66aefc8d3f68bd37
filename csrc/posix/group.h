/* The backend `process-group`: each program leads a group of its own. Whoever calls setsid() or setpgid() leaves it. */
#ifndef PJ_POSIX_GROUP_H
#define PJ_POSIX_GROUP_H

#include "core/backend.h"

extern const pj_backend pj_group_backend;

#endif
