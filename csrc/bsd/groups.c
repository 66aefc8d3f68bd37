#include "posix/groups.h"

#include <errno.h>

#include "bsd/snapshot.h"
#include "core/backend.h"

const unsigned pj_group_guarantees = PJ_INHERITED | PJ_OWN_CHILD;

static int add_members(pj_pid group, pj_pids *out, pj_error *err) {
    pj_snapshot found;
    if (pj_look_group(group, &found, err) < 0) {
        return -1;
    }
    int result = 0;
    for (size_t at = 0; at < found.count && result == 0; at++) {
        if (!found.items[at].zombie && !pj_pids_add(out, found.items[at].pid)) {
            result = pj_fail(err, ENOMEM, "realloc");
        }
    }
    pj_snapshot_free(&found);
    return result;
}

int pj_group_members(const pj_pids *groups, pj_pids *out, pj_error *err) {
    for (size_t at = 0; at < groups->count; at++) {
        if (add_members(groups->items[at], out, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pj_group_signal(const pj_process *leader, int sig) {
    (void)leader;
    (void)sig;
    errno = ENOSYS;
    return -1;
}
