/* How a forest is ended (hunt.c): what pj_forest_kill() and pj_kill_tree() have in common. */
#ifndef PJ_LINUX_HUNT_H
#define PJ_LINUX_HUNT_H

#include "linux/tree.h"

/* As pj_forest_kill(), with a `caller` as pj_kill_tree(): asked when all that were found have their SIGKILL. */
int pj_hunt(const pj_forest *forest, pj_deadline deadline, pj_caller *caller, pj_pids *killed, pj_pids *survivors,
            pj_error *err);

#endif
