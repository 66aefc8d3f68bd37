/* Who traces us (ptrace(2)): to stop such a one is to stop ourselves, for our next system call waits for it. */
#ifndef PJ_LINUX_TRACER_H
#define PJ_LINUX_TRACER_H

#include "core/error.h"
#include "core/pids.h"

/* The processes that trace a thread of ours, sorted. `proc`: pj_procfs_open(). The guard links it (no libc). */
int pj_find_tracers(int proc, pj_pids *out, pj_error *err);

/* The number behind `name` in the text of a status file; 0: there is none that a PID can be. The name of the process,
 * in the first line, holds no newline: the kernel escapes it. */
pj_pid pj_parse_status(const char *name, const char *text, size_t length);

#endif
