/* Linux: in the order in which they are tried. */
#include "linux/cgroup.h"
#include "linux/reaper.h"
#include "posix/group.h"

const pj_backend *const pj_backends[] = {&pj_cgroup_backend, &pj_reaper_backend, &pj_group_backend, NULL};
