/* What these kernels change for one process alone anyway, whatever its threads. */
#include <errno.h>
#include <unistd.h>

#include "posix/start.h"

int pj_child_setgroups(size_t count, const gid_t *groups) {
    return setgroups((int)count, groups);
}

int pj_child_setgid(gid_t gid) {
    return setregid(gid, gid);
}

int pj_child_setuid(uid_t uid) {
    return setreuid(uid, uid);
}

int pj_child_parent_death(int sig, pid_t parent) {
    (void)sig;
    (void)parent;
    errno = ENOSYS;
    return -1;
}
