#include <sys/types.h>

#include <sys/proc.h>
#include <sys/sysctl.h>

#include "bsd/snapshot.h"

const size_t pj_kinfo_size = sizeof(struct kinfo_proc);
const int pj_kinfo_all = KERN_PROC_ALL;

void pj_kinfo_read(const void *record, int64_t epoch, pj_entry *out) {
    const struct kinfo_proc *info = record;
    const struct timeval *start = &info->kp_proc.p_starttime;
    *out = (pj_entry){
        .pid = info->kp_proc.p_pid,
        .parent = info->kp_eproc.e_ppid,
        .group = info->kp_eproc.e_pgid,
        .created = (uint64_t)((int64_t)start->tv_sec * 1000000 + start->tv_usec - epoch),
        .zombie = info->kp_proc.p_stat == SZOMB,
        .stopped = info->kp_proc.p_stat == SSTOP,
        .kernel = info->kp_proc.p_pid == 0,
    };
}

int64_t pj_kinfo_epoch(void) {
    return 0; /* stamped at the fork, whatever becomes of the clock later */
}
