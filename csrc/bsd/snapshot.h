/* Processes as sysctl(3) shows them, the same way on macOS and FreeBSD. Neither has a handle on a process that is not
 * one's own child: identity is PID and start time, looked at before each act. */
#ifndef PJ_BSD_SNAPSHOT_H
#define PJ_BSD_SNAPSHOT_H

#include "core/process.h"

typedef struct {
    pj_pid pid, parent, group;
    uint64_t created; /* microseconds since the epoch of the system's start times, see pj_kinfo_epoch() */
    bool zombie, stopped, kernel;
} pj_entry;

typedef struct {
    pj_entry *items; /* ascending by pid */
    size_t count;
} pj_snapshot;

/* darwin/kinfo.c, freebsd/kinfo.c: what the records of the two systems do not have in common. */
extern const size_t pj_kinfo_size;
extern const int pj_kinfo_all;                                        /* the name of "all processes" below kern.proc */
void pj_kinfo_read(const void *record, int64_t epoch, pj_entry *out); /* `epoch` as below */
int64_t pj_kinfo_epoch(void); /* what start times are counted from, microseconds since 1970: 0, or the boot */

int pj_look(pj_pid pid, pj_entry *out, pj_error *err); /* ESRCH: nobody has that PID */
int pj_look_all(pj_snapshot *out, pj_error *err);
int pj_look_group(pj_pid group, pj_snapshot *out, pj_error *err);
const pj_entry *pj_snapshot_find(const pj_snapshot *snapshot, pj_pid pid); /* NULL: not there */
void pj_snapshot_free(pj_snapshot *snapshot);

#endif
