/* How a forest is ended (hunt.c): what pj_forest_kill() and pj_kill_tree() have in common. */
#ifndef PJ_LINUX_HUNT_H
#define PJ_LINUX_HUNT_H

#include "linux/tree.h"

/* As pj_forest_kill(). `interruptible`: EINTR is returned, when all that were found have their SIGKILL. *killed is then
 * our own notes, not yet a list; called again with them, it waits for those who still live, too. */
int pj_hunt(const pj_forest *forest, bool interruptible, pj_deadline deadline, pj_pids *killed, pj_pids *survivors,
            pj_error *err);

#endif
