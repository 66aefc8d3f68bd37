/* Names of jobs: one small file each, in a directory that is this user's alone. Looked at and changed under its flock.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "linux/cgroup.h"
#include "linux/pidref.h"

enum { LOCK_MS = 2000 };

/* ---- the directory ---- */

static bool is_private(const struct stat *stat) {
    return S_ISDIR(stat->st_mode) && stat->st_uid == geteuid() && (stat->st_mode & 077) == 0;
}

/* Made if need be; refused where it is a symbolic link, or somebody else's, or open to others. */
static int open_private(const char *path, pj_error *err) {
    struct stat stat;
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return pj_fail(err, errno, "mkdir (names of jobs)");
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return pj_fail(err, errno, "open (names of jobs)");
    }
    if (fstat(fd, &stat) < 0) {
        pj_fail(err, errno, "fstat (names of jobs)");
    } else if (!is_private(&stat)) {
        pj_fail(err, EPERM, "directory of the names of jobs is not this user's alone");
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

static bool is_foreign(const char *path) {
    struct stat stat;
    return lstat(path, &stat) == 0 && stat.st_uid != geteuid();
}

static int open_directory(pj_error *err) {
    char path[512];
    struct stat stat;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && *runtime == '/' && strlen(runtime) < 400 && lstat(runtime, &stat) == 0 && is_private(&stat)) {
        snprintf(path, sizeof path, "%s/pyjob", runtime);
        return open_private(path, err);
    }
    if (geteuid() == 0) {
        int fd = open_private("/run/pyjob", err);
        /* Containers without a /run to write to; root of a user namespace, to whom the host's root is somebody else. */
        if (fd >= 0 || !(err->code == ENOENT || err->code == EROFS || is_foreign("/run"))) {
            return fd;
        }
    }
    snprintf(path, sizeof path, "/tmp/pyjob-%ld", (long)geteuid());
    return open_private(path, err);
}

static int lock_directory(pj_error *err) {
    int fd = open_directory(err);
    for (int waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0; waited += 2) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || waited >= LOCK_MS) {
            int code = errno == EWOULDBLOCK ? ETIMEDOUT : errno;
            close(fd);
            return pj_fail(err, code, "flock (names of jobs)");
        }
        poll(NULL, 0, 2);
    }
    return fd;
}

/* Explicitly: a child that another thread forked may hold a copy of the descriptor. */
static void unlock_directory(int fd) {
    flock(fd, LOCK_UN);
    close(fd);
}

/* ---- entries ---- */

/* So that no name is "." or "..". */
static void file_name(const char *name, char out[160]) {
    snprintf(out, 160, "job.%s", name);
}

static ssize_t read_file(int fd, char text[PJ_ENTRY_TEXT], pj_error *err) {
    struct stat stat;
    if (fstat(fd, &stat) < 0) {
        return pj_fail(err, errno, "fstat (name of a job)");
    }
    if (!S_ISREG(stat.st_mode)) {
        return pj_fail(err, EEXIST, "name of a job: what has it is no regular file");
    }
    ssize_t size = read(fd, text, PJ_ENTRY_TEXT - 1);
    return size < 0 ? pj_fail(err, errno, "read (name of a job)") : size;
}

/* 1: read, 0: there is none, or half of one that a crash left, -1: refused. O_NONBLOCK: a FIFO would wait for somebody
 * at its other end, while we hold the lock. */
static int read_entry(int directory, const char *name, pj_entry *out, pj_error *err) {
    char file[160], text[PJ_ENTRY_TEXT];
    file_name(name, file);
    int fd = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : pj_fail(err, errno, "open (name of a job)");
    }
    ssize_t size = read_file(fd, text, err);
    close(fd);
    if (size < 0) {
        return -1;
    }
    text[size] = '\0';
    return pj_parse_entry(text, out);
}

static int write_entry(int directory, const char *name, const pj_entry *what, pj_error *err) {
    char file[160], text[PJ_ENTRY_TEXT];
    file_name(name, file);
    size_t size = pj_format_entry(what, text);
    int fd = openat(directory, file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0) {
        return pj_fail(err, errno, "open (name of a job)");
    }
    ssize_t written = write(fd, text, size);
    int code = written < 0 ? errno : ENOSPC;
    close(fd);
    if (written < 0 || (size_t)written != size) {
        unlinkat(directory, file, 0);
        return pj_fail(err, code, "write (name of a job)");
    }
    return 0;
}

/* Its leaf, if the job is one: the very directory of then, with members or with an owner who may get some. -1: no such
 * job; -2: a refused look. */
static int open_leaf(const pj_entry *what, pj_error *err) {
    pj_dir dir;
    struct stat stat;
    int fd = pj_above_standard(open(what->where, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) {
        if (errno == ENOENT) {
            return -1;
        }
        pj_fail(err, errno, "open (cgroup)");
        return -2;
    }
    if (fstat(fd, &stat) < 0) {
        pj_fail(err, errno, "fstat (cgroup)");
        close(fd);
        return -2;
    }
    if ((uint64_t)stat.st_ino == what->inode) {
        pj_dir_set(&dir, fd, "");
        bool owned = strcmp(what->owner, "-") != 0 && pj_root_owner_lives(what->owner) != 0;
        if (owned || pj_dir_populated(&dir) != 0) {
            return fd;
        }
    }
    close(fd);
    return -1;
}

enum { TIDIED_MOST = 16 };

static const struct dirent *next_entry(DIR *list) {
    const struct dirent *at;
    while ((at = readdir(list)) && strncmp(at->d_name, "job.", 4) != 0) {
    }
    return at;
}

/* Owners that were killed leave their entries behind. Looked for from another place each time: the first ones may all
 * be of the living. */
static void tidy(int directory) {
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    long count = 0;
    while (next_entry(list)) {
        count++;
    }
    rewinddir(list);
    for (long skipped = count > TIDIED_MOST ? pj_now() % (count - TIDIED_MOST + 1) : 0; skipped > 0; skipped--) {
        (void)next_entry(list);
    }
    const struct dirent *at;
    for (int looked = 0; looked < TIDIED_MOST && (at = next_entry(list)); looked++) {
        pj_entry found;
        pj_error ignored;
        if (read_entry(directory, at->d_name + 4, &found, &ignored) != 1) {
            continue;
        }
        int leaf = open_leaf(&found, &ignored);
        if (leaf >= 0) {
            close(leaf);
        } else if (leaf == -1) {
            unlinkat(directory, at->d_name, 0);
        }
    }
    closedir(list);
}

/* ---- what others call ---- */

static int claim(int directory, const char *name, const pj_entry *made, pj_error *err) {
    pj_entry former;
    int known = read_entry(directory, name, &former, err);
    if (known < 0) {
        return -1;
    }
    int leaf = known ? open_leaf(&former, err) : -1;
    if (leaf >= 0) {
        close(leaf);
        return pj_fail(err, EEXIST, "name of a job");
    }
    return leaf == -2 ? -1 : write_entry(directory, name, made, err);
}

int pj_name_claim(const char *name, const pj_cgroup_job *job, pj_error *err) {
    pj_entry made = {.inode = job->inode, .namespace = job->namespace};
    snprintf(made.owner, sizeof made.owner, "%s", job->root->name);
    if ((size_t)snprintf(made.proc, sizeof made.proc, "%s", job->proc) >= sizeof made.proc ||
        (size_t)snprintf(made.where, sizeof made.where, "%s/%s", job->root->where, job->path) >= sizeof made.where) {
        return pj_fail(err, ENAMETOOLONG, "name of a job");
    }
    int directory = lock_directory(err);
    if (directory < 0) {
        return -1;
    }
    tidy(directory);
    int result = claim(directory, name, &made, err);
    unlock_directory(directory);
    return result;
}

static int find(const pj_entry *found, pj_cgroup_job *job, pj_error *err) {
    uint64_t namespace;
    if (pj_cgroup_namespace(&namespace, err) < 0) {
        return -1;
    }
    if (namespace != found->namespace) {
        return pj_fail(err, EXDEV, "cgroup namespace of the job");
    }
    int leaf = open_leaf(found, err);
    if (leaf < 0) {
        return leaf == -1 ? pj_fail(err, ENOENT, "name of a job") : -1;
    }
    job->proc = strdup(found->proc);
    if (!job->proc) {
        close(leaf);
        return pj_fail(err, ENOMEM, "strdup");
    }
    job->base = leaf;
    job->namespace = namespace;
    job->inode = found->inode;
    return 0;
}

int pj_name_find(const char *name, pj_cgroup_job *job, pj_error *err) {
    pj_entry found;
    int directory = lock_directory(err);
    if (directory < 0) {
        return -1;
    }
    int known = read_entry(directory, name, &found, err);
    int result = known == 1 ? find(&found, job, err) : known == 0 ? pj_fail(err, ENOENT, "name of a job") : -1;
    unlock_directory(directory);
    return result;
}

void pj_name_drop(const char *name, const pj_cgroup_job *job, bool empty) {
    char file[160];
    pj_entry found;
    pj_error ignored;
    int directory = lock_directory(&ignored);
    if (directory < 0) {
        return; /* the next claim sees that the leaf is gone */
    }
    if (read_entry(directory, name, &found, &ignored) == 1 && found.inode == job->inode) {
        if (empty) {
            file_name(name, file);
            unlinkat(directory, file, 0);
        } else {
            strcpy(found.owner, "-");
            (void)write_entry(directory, name, &found, &ignored);
        }
    }
    unlock_directory(directory);
}
