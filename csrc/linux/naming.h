/* What is found again by its name: owners' roots, and the entries of named jobs. Pure functions of the text, which
 * anybody of this user's may have written. */
#ifndef PJ_LINUX_NAMING_H
#define PJ_LINUX_NAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "linux/cgroupfs.h"

/* pyjob-<PID namespace>-<pid>-<start time>[.<another of this process>] */
typedef struct {
    uint64_t namespace, pid, start, another;
} pj_root_name;

enum { PJ_ROOT_NAME = 96 };

bool pj_parse_root_name(const char *name, pj_root_name *out); /* false: *out is untouched */
void pj_format_root_name(const pj_root_name *name, char out[PJ_ROOT_NAME]);

/* Five lines, the last of which may hold newlines. */
typedef struct {
    uint64_t inode, namespace;
    char owner[PJ_ROOT_NAME]; /* the root's name, or "-" when the owner closed the job and its members live on */
    char proc[PJ_CGROUP_PATH];
    char where[PJ_CGROUP_PATH];
} pj_entry;

enum { PJ_ENTRY_TEXT = 2 * PJ_CGROUP_PATH + 256 };

bool pj_parse_entry(const char *text, pj_entry *out); /* false: what *out holds is of no use */
size_t pj_format_entry(const pj_entry *entry, char out[PJ_ENTRY_TEXT]);

#endif
