#include <sys/param.h>

#include <sys/proc.h>
#include <sys/sysctl.h>
#include <sys/user.h>

#include "bsd/snapshot.h"

const size_t pj_kinfo_size = sizeof(struct kinfo_proc);
const int pj_kinfo_all = KERN_PROC_PROC;

void pj_kinfo_read(const void *record, int64_t epoch, pj_entry *out) {
    const struct kinfo_proc *info = record;
    *out = (pj_entry){
        .pid = info->ki_pid,
        .parent = info->ki_ppid,
        .group = info->ki_pgid,
        .created = (uint64_t)((int64_t)info->ki_start.tv_sec * 1000000 + info->ki_start.tv_usec - epoch),
        .zombie = info->ki_stat == SZOMB,
        .stopped = info->ki_stat == SSTOP,
        .kernel = (info->ki_flag & P_SYSTEM) != 0 || info->ki_pid == 0,
    };
}

/* The kernel adds the time of the boot, which changes when somebody sets the clock, to what it keeps. */
int64_t pj_kinfo_epoch(void) {
    int name[2] = {CTL_KERN, KERN_BOOTTIME};
    struct timeval boot = {0};
    size_t size = sizeof boot;
    sysctl(name, 2, &boot, &size, NULL, 0); /* cannot fail: every kernel has it */
    return (int64_t)boot.tv_sec * 1000000 + boot.tv_usec;
}
