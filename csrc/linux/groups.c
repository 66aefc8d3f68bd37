#define _GNU_SOURCE 1
#include "posix/groups.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/backend.h"
#include "linux/procfs.h"
#include "linux/raw.h"

/* killpg() takes every member under one lock that fork() needs as well (kill_pgrp_info() in the kernel). */
const unsigned pj_group_guarantees = PJ_INHERITED | PJ_ATOMIC_KILL | PJ_OWN_CHILD | PJ_PINNED;

enum { TO_GROUP = 1 << 2 }; /* PIDFD_SIGNAL_PROCESS_GROUP, kernel 6.9 */

int pj_group_members(const pj_pids *groups, pj_pids *out, pj_error *err) {
    pj_table table = {0};
    if (groups->count == 0) {
        return 0;
    }
    if (pj_procfs_scan(&table, err) < 0) {
        return -1;
    }
    int result = 0;
    for (size_t i = 0; i < table.count && result == 0; i++) {
        const pj_stat *stat = &table.items[i];
        if (!pj_stat_dead(stat) && pj_pids_has(groups, stat->group) && !pj_pids_add(out, stat->pid)) {
            result = pj_fail(err, ENOMEM, "realloc");
        }
    }
    pj_table_free(&table);
    return result;
}

int pj_group_signal(const pj_process *leader, int sig) {
    if (leader->handle < 0) {
        errno = ENOSYS;
        return -1;
    }
    if (syscall(PJ_SYS_PIDFD_SEND_SIGNAL, (int)leader->handle, sig, NULL, TO_GROUP) == 0) {
        return 0;
    }
    if (errno == EINVAL) {
        errno = ENOSYS; /* the flag is not known */
    }
    return -1;
}
