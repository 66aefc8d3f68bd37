/* Whether the backend works here: by doing, once and for nothing, what create() does. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "linux/cgroup.h"
#include "linux/pidref.h"

static const char *const delegate = "start it in a group of its own: `systemd-run --user --scope -p Delegate=yes "
                                    "COMMAND…`, or let root make a group and "
                                    "chown its directory, cgroup.procs, cgroup.threads and cgroup.subtree_control";
static const char *const writable =
    "mount the cgroup file system writable: `docker run --cgroupns=private` with a writable /sys/fs/cgroup "
    "(`-v /sys/fs/cgroup:/sys/fs/cgroup:rw`), or a privileged container";
static const char *const mounted = "mount it: `mount -t cgroup2 none /sys/fs/cgroup` (Linux 4.5 and later)";
static const char *const unlimited =
    "raise cgroup.max.depth and cgroup.max.descendants, in this group or one above it: "
    "a program in a job takes three levels";
static const char *const reinstall = "install pyjob again: the file belongs to its wheel and must be executable";

__attribute__((format(printf, 3, 4))) static void refuse(pj_probe *out, const char *help, const char *why, ...) {
    va_list args;
    va_start(args, why);
    vsnprintf(out->why, sizeof out->why, why, args);
    va_end(args);
    snprintf(out->help, sizeof out->help, "%s", help);
}

static const char *cure(int code) {
    return code == EROFS ? writable : code == EAGAIN ? unlimited : delegate;
}

/* Kernel 6.14 closed the window in which a fork could outrun cgroup.kill. */
static bool is_atomic(pj_dir *leaf) {
    struct utsname system;
    unsigned major = 0, minor = 0;
    int fd = pj_dir_open(leaf, "cgroup.kill", O_WRONLY);
    if (fd < 0) {
        return false;
    }
    close(fd);
    return uname(&system) == 0 && sscanf(system.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 14));
}

static unsigned promises(pj_dir *leaf) {
    unsigned all =
        PJ_INHERITED | PJ_ESCAPE_PROOF | PJ_DIES_WITH_OWNER | PJ_OWN_CHILD | PJ_ASSIGN | PJ_NAMED | PJ_COMPLETE_LIST;
    return all | (is_atomic(leaf) ? PJ_ATOMIC_KILL : 0) | (pj_pidfd_works() ? PJ_PINNED : 0);
}

static int make(int base, const char *name, pj_error *err) {
    if (mkdirat(base, name, 0755) < 0) {
        return pj_fail(err, errno, "mkdir (cgroup)");
    }
    return fchmodat(base, name, 0755, 0) < 0 ? pj_fail(err, errno, "fchmodat (cgroup)") : 0; /* despite the umask */
}

int pj_cgroup_prove(int home, const char *name, pj_error *err) {
    pj_dir dir;
    char type[64] = "";
    if (faccessat(home, "cgroup.procs", W_OK, AT_EACCESS) < 0) { /* the common ancestor: cgroups(7) */
        return pj_fail(err, errno, "write cgroup.procs");
    }
    (void)pj_dir_set(&dir, home, name);
    if (pj_dir_read(&dir, "cgroup.type", type, sizeof type) < 0 && errno != ENOENT) { /* none below Linux 4.14 */
        return pj_fail(err, errno, "read cgroup.type");
    }
    if (*type != '\0' && strcmp(type, "domain\n") != 0) { /* cgroups(7): below a threaded group only threads can be */
        return pj_fail(err, EOPNOTSUPP, "cgroup.type: a threaded group takes no processes");
    }
    const size_t top = dir.length;
    int result = 0;
    for (int level = 0; level < 2 && result == 0; level++) { /* a job, and in it the private one of a Popen */
        result = pj_dir_enter(&dir, PJ_LEAF_PREFIX "0") ? make(dir.base, dir.text, err)
                                                        : pj_fail(err, errno, "mkdir (cgroup)");
    }
    pj_dir_leave(&dir, top);
    if (pj_dir_enter(&dir, PJ_LEAF_PREFIX "0")) {
        (void)pj_dir_remove(&dir);
    }
    return result;
}

static void try_root(int home, const char *where, pj_probe *out) {
    pj_dir root;
    pj_error err;
    char name[64];
    snprintf(name, sizeof name, "pyjob-probe-%ld-%lld", (long)getpid(), (long long)pj_now());
    (void)pj_dir_set(&root, home, name);
    if (make(home, name, &err) < 0 || pj_cgroup_prove(home, name, &err) < 0) {
        refuse(out, cure(err.code), "no job can be made in %.120s: %s: %s", where, err.call, strerror(err.code));
    } else {
        out->guarantees = promises(&root);
        out->available = true;
    }
    (void)pj_dir_remove(&root);
}

static bool has_guard(const char *guard, pj_probe *out) {
    struct stat stat_;
    if (guard && stat(guard, &stat_) == 0 && S_ISREG(stat_.st_mode) &&
        faccessat(AT_FDCWD, guard, X_OK, AT_EACCESS) == 0) {
        return true;
    }
    refuse(out, reinstall, "the guard %.160s cannot be executed: %s", guard ? guard : "(none)",
           strerror(guard ? errno : ENOENT));
    return false;
}

void pj_cgroup_probe(const char *guard, pj_probe *out) {
    char path[PJ_CGROUP_PATH], where[PJ_CGROUP_PATH];
    pj_error err;
    *out = (pj_probe){0};
    if (pj_cgroup_own(path, &err) < 0) {
        refuse(out, mounted, "the caller's own control group is not known: %s: %s", err.call, strerror(err.code));
        return;
    }
    int home = pj_cgroup_open(path, where, &err);
    if (home < 0) {
        bool absent = strcmp(err.call, "cgroup2 mount") == 0;
        refuse(out, absent ? mounted : delegate,
               absent ? "no mounted cgroup v2 file system shows the group %.150s"
                      : "the control group %.150s cannot be opened",
               path);
        return;
    }
    try_root(home, where, out);
    close(home);
    if (out->available && !has_guard(guard, out)) {
        out->available = false;
    }
}
