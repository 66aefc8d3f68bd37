/* What a program is started with: the arguments of _posixsubprocess.fork_exec, as plain C. */
#ifndef PJ_POSIX_SPEC_H
#define PJ_POSIX_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/backend.h"

struct pj_spec {
    char *const *executables; /* tried in this order as execvp does; ends with NULL */
    char *const *argv;        /* ends with NULL */
    char *const *envp;        /* ends with NULL; NULL: the caller's environment */
    const char *cwd;          /* or NULL */
    int p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite; /* as in subprocess: -1 where there is none */
    bool close_fds;
    const int *pass_fds; /* ascending, inheritable afterwards */
    size_t pass_count;
    bool restore_signals; /* SIGPIPE, SIGXFSZ back to default */
    bool start_new_session;
    int process_group; /* -1: none; 0: a new one; else the id to join */
    bool set_gid, set_uid, set_groups;
    gid_t gid;
    uid_t uid;
    const gid_t *groups;
    size_t group_count;
    int umask; /* -1: unchanged */
};

#endif
