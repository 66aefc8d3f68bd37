/* Where control groups are: /proc/PID/cgroup, /proc/PID/mountinfo, and the directory that both lead to.
 * cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5). */
#ifndef PJ_LINUX_CGROUPFS_H
#define PJ_LINUX_CGROUPFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pids.h"
#include "linux/sweep.h"

enum { PJ_CGROUP_PATH = 4096 };

/* Pure functions of the text; false: there is no such thing in it, *out is untouched. */

/* The path in the line of the v2 hierarchy ("0::/a/b"), as the kernel wrote it; points into the text. */
bool pj_parse_cgroup(const char *text, size_t length, const char **path, size_t *size);

typedef struct {
    char root[PJ_CGROUP_PATH]; /* which part of the hierarchy is mounted */
    char point[PJ_CGROUP_PATH];
} pj_mount;

/* One line of mountinfo, where it is of the type cgroup2. */
bool pj_parse_mount(const char *line, size_t length, pj_mount *out);

/* Where a group is in the file system if it is below that mount: false where not, or where it does not fit. */
bool pj_mount_place(const pj_mount *mount, const char *path, char *out, size_t room);

/* Whether the group `path` is `around` or below it. */
bool pj_path_is_below(const char *path, size_t size, const char *around);

/* The v2 group of the calling thread, or of a process: ESRCH: there is none of that number (also where /proc hides it).
 */
int pj_cgroup_own(char path[PJ_CGROUP_PATH], pj_error *err);
int pj_cgroup_of(pj_pid pid, char path[PJ_CGROUP_PATH], pj_error *err);

/* A directory descriptor (not O_PATH) of that group. `where`, if given, becomes its name in the file system. ENOENT as
 * "cgroup2 mount": nothing is mounted that shows it. */
int pj_cgroup_open(const char *path, char where[PJ_CGROUP_PATH], pj_error *err);

/* Paths mean something only within one cgroup namespace: its inode, for the calling thread. */
int pj_cgroup_namespace(uint64_t *out, pj_error *err);

#endif
