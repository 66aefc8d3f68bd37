/* /proc, read without stdio: this file is also linked into the guard, which has no libc. Besides memory functions it
 * uses only clock_gettime, openat, read, close, fstatfs, readlinkat, kill, getpid, syscall(SYS_getdents64) and malloc,
 * realloc, free.
 *
 * A refused look is an error here, never "nobody": hidepid makes a living process look like one that never was. */
#ifndef PJ_LINUX_PROCFS_H
#define PJ_LINUX_PROCFS_H

#include <sys/types.h>

#include "core/error.h"
#include "core/pids.h"

/* One line of /proc/PID/stat, proc_pid_stat(5). */
typedef struct {
    pj_pid pid, parent, group, session; /* 0: outside our PID namespace */
    uint64_t start;                     /* clock ticks since boot: 10 ms, too coarse to be an identity alone */
    int64_t threads;
    int exit_code; /* of a zombie, as waitpid(2) has it; 0 also when we may not see it; -1: the kernel does not say */
    char state;
    bool thread; /* the id of a thread that leads no process */
    bool kernel; /* a kernel thread: deaf to signals */
    bool parked; /* by its name and exit signal: stands between a guard and its owner (linux/guard.h) */
} pj_stat;

/* Ended, though perhaps not reaped. (A leader that left its other threads running shows 'Z' and lives.) */
static inline bool pj_stat_dead(const pj_stat *stat) {
    return (stat->state == 'Z' || stat->state == 'X' || stat->state == 'x') && stat->threads <= 1;
}

/* A pure function of the text. The name in it may hold anything: ')', blanks, newlines. false: not such a line; *out is
 * untouched. */
bool pj_parse_stat(const char *text, size_t length, pj_stat *out);

/* Now, in the unit of `start`. Whoever lived in a later tick than it started in is known by PID and start time alone:
 * who has its PID after it started later. */
uint64_t pj_procfs_now(void);

/* A descriptor of /proc, for the two functions below: checked to be a procfs and that of our own PID namespace. */
int pj_procfs_open(pj_error *err);

/* ESRCH: nobody has that id, or only a thread. EACCES: somebody has it and /proc does not show who (hidepid). */
int pj_procfs_stat_at(int proc, pj_pid pid, pj_stat *out, pj_error *err);
int pj_procfs_stat(pj_pid pid, pj_stat *out, pj_error *err); /* opens and checks /proc for this one look */

/* Whether /proc keeps processes from us (hidepid=1, 2, 4), so that a scan may miss some. */
int pj_procfs_hides(bool *hides, pj_error *err);

/* Calls take for each process id that can still be read from fd, as cgroup.procs and /proc/PID/task/TID/children list
 * them; ids outside our PID namespace, shown as 0, are left out. What take returned if not 0; -1: read() failed. */
typedef int (*pj_take)(pid_t pid, void *arg);
int pj_read_ids(int fd, pj_take take, void *arg);

/* All processes (not their threads), zombies included, in ascending order of pid. */
typedef struct {
    pj_stat *items;
    size_t count, room;
    size_t hidden; /* seen by number only: their stat is refused (hidepid=1) */
    bool moving;   /* some may have been missed, for processes came and went until the end of the scan */
} pj_table;

/* *out: an empty table, or one whose memory is used again. One walk through /proc misses whoever is born behind it; the
 * scan follows the PIDs that are given out meanwhile, until there are none. If not moving, whoever lived all the time
 * is in it, and of a line of forks and exits at least one. */
int pj_procfs_scan(pj_table *out, pj_error *err);
const pj_stat *pj_table_find(const pj_table *table, pj_pid pid); /* NULL: not there */
/* One of our helpers: a parked process that is a child of ours, or a guard below it. By this table alone. */
bool pj_table_helps(const pj_table *table, const pj_stat *one);
void pj_table_free(pj_table *table);

#endif
