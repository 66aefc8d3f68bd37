#define _GNU_SOURCE 1
#include "linux/cgroupfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "linux/pidref.h"

enum { CGROUP2_MAGIC = 0x63677270 }; /* statfs(2) */

/* ---- parsers ---- */

bool pj_parse_cgroup(const char *text, size_t length, const char **path, size_t *size) {
    const char *end = text + length;
    for (const char *line = text; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) {
            return false; /* cut off: the path might go on */
        }
        if (stop - line > 3 && memcmp(line, "0::/", 4) == 0) {
            *path = line + 3;
            *size = (size_t)(stop - *path);
            return true;
        }
        line = stop + 1;
    }
    return false;
}

typedef struct {
    const char *at, *end;
} reader;

/* Fields are separated by one blank each; none is empty. */
static bool next_field(reader *line, const char **field, size_t *size) {
    const char *start = line->at;
    while (line->at < line->end && *line->at != ' ') {
        line->at++;
    }
    *field = start;
    *size = (size_t)(line->at - start);
    if (line->at < line->end) {
        line->at++;
    }
    return *size > 0;
}

static bool is_octal(char c) {
    return c >= '0' && c <= '7';
}

/* Blank, tab, newline and backslash are written as \ooo (seq_escape() in the kernel). */
static bool unescape(const char *text, size_t size, char out[PJ_CGROUP_PATH]) {
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        if (length + 1 >= PJ_CGROUP_PATH) {
            return false;
        }
        if (text[i] == '\\' && i + 3 < size && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
            is_octal(text[i + 3])) {
            out[length++] = (char)((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
            i += 3;
        } else {
            out[length++] = text[i];
        }
    }
    out[length] = '\0';
    return strlen(out) == length;
}

bool pj_parse_mount(const char *text, size_t length, pj_mount *out) {
    reader line = {text, text + length};
    const char *field, *root, *point;
    size_t size, root_size, point_size;
    for (int i = 0; i < 3; i++) { /* id, parent's id, device */
        if (!next_field(&line, &field, &size)) {
            return false;
        }
    }
    if (!next_field(&line, &root, &root_size) || !next_field(&line, &point, &point_size)) {
        return false;
    }
    do { /* options, then any number of tags, ended by "-" */
        if (!next_field(&line, &field, &size)) {
            return false;
        }
    } while (size != 1 || *field != '-');
    if (!next_field(&line, &field, &size) || size != 7 || memcmp(field, "cgroup2", 7) != 0) {
        return false;
    }
    pj_mount found;
    if (!unescape(root, root_size, found.root) || !unescape(point, point_size, found.point)) {
        return false;
    }
    *out = found;
    return true;
}

static size_t without_slash(const char *path) {
    size_t length = strlen(path);
    return length > 0 && path[length - 1] == '/' ? length - 1 : length; /* the root of the hierarchy */
}

bool pj_path_is_below(const char *path, size_t size, const char *around) {
    size_t length = without_slash(around);
    return size >= length && memcmp(path, around, length) == 0 && (size == length || path[length] == '/');
}

static bool goes_up(const char *path) {
    for (const char *at = path; (at = strstr(at, "/..")); at += 3) {
        if (at[3] == '/' || at[3] == '\0') {
            return true;
        }
    }
    return false;
}

bool pj_mount_place(const pj_mount *mount, const char *path, char *out, size_t room) {
    if (!pj_path_is_below(path, strlen(path), mount->root)) {
        return false;
    }
    const char *rest = path + without_slash(mount->root);
    if (goes_up(rest)) { /* outside our cgroup namespace, which has no name for it */
        return false;
    }
    int size = snprintf(out, room, "%s%s", strcmp(mount->point, "/") == 0 ? "" : mount->point, rest);
    return size > 0 && (size_t)size < room;
}

/* ---- looking ---- */

/* The whole of a file in memory to be freed, NUL added. */
static char *slurp(const char *name, size_t *length) {
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    char *text = NULL;
    size_t size = 0, room = 0;
    ssize_t more;
    do {
        if (room - size < 2) {
            char *grown = realloc(text, room += 8192);
            if (!grown) {
                more = -1;
                break;
            }
            text = grown;
        }
        more = read(fd, text + size, room - size - 1);
        size += more > 0 ? (size_t)more : 0;
    } while (more > 0);
    int code = errno;
    close(fd);
    if (more < 0) {
        free(text);
        errno = code;
        return NULL;
    }
    text[size] = '\0';
    *length = size;
    return text;
}

static int read_cgroup(const char *name, char path[PJ_CGROUP_PATH], pj_error *err) {
    size_t length, size;
    const char *found;
    char *text = slurp(name, &length);
    if (!text) {
        return pj_fail(err, errno == ENOENT ? ESRCH : errno, "read /proc/PID/cgroup");
    }
    int code = 0;
    if (!pj_parse_cgroup(text, length, &found, &size)) {
        code = ENOENT; /* no v2 hierarchy in this kernel */
    } else if (size >= PJ_CGROUP_PATH) {
        code = ENAMETOOLONG;
    } else {
        memcpy(path, found, size);
        path[size] = '\0';
    }
    free(text);
    return code == 0 ? 0 : pj_fail(err, code, "read /proc/PID/cgroup");
}

int pj_cgroup_own(char path[PJ_CGROUP_PATH], pj_error *err) {
    return read_cgroup("/proc/thread-self/cgroup", path, err);
}

int pj_cgroup_of(pj_pid pid, char path[PJ_CGROUP_PATH], pj_error *err) {
    char name[48];
    snprintf(name, sizeof name, "/proc/%lld/cgroup", (long long)pid);
    return read_cgroup(name, path, err);
}

static int open_group(const char *name, pj_error *err) {
    struct statfs system;
    int fd = pj_above_standard(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) {
        return pj_fail(err, errno, "open (cgroup)");
    }
    if (fstatfs(fd, &system) < 0) {
        pj_fail(err, errno, "fstatfs (cgroup)");
    } else if ((unsigned long)system.f_type != CGROUP2_MAGIC) { /* something is mounted over it */
        pj_fail(err, ENOENT, "cgroup2 mount");
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

/* Of several mounts that show it, the first in which we may join; else the first at all, for its refusal to be told. */
int pj_cgroup_open(const char *path, char where[PJ_CGROUP_PATH], pj_error *err) {
    size_t length;
    pj_mount mount;
    char name[PJ_CGROUP_PATH];
    int found = -1;
    char *text = slurp("/proc/thread-self/mountinfo", &length);
    if (!text) {
        return pj_fail(err, errno, "read /proc/self/mountinfo");
    }
    pj_fail(err, ENOENT, "cgroup2 mount");
    for (const char *line = text, *stop; (stop = strchr(line, '\n')); line = stop + 1) {
        if (!pj_parse_mount(line, (size_t)(stop - line), &mount) || !pj_mount_place(&mount, path, name, sizeof name)) {
            continue;
        }
        int fd = open_group(name, err);
        if (fd < 0) {
            continue;
        }
        bool joinable = faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) == 0;
        if (found >= 0 && !joinable) {
            close(fd);
            continue;
        }
        if (found >= 0) {
            close(found);
        }
        found = fd;
        if (where) {
            memcpy(where, name, sizeof name);
        }
        if (joinable) {
            break;
        }
    }
    free(text);
    return found;
}

int pj_cgroup_namespace(uint64_t *out, pj_error *err) {
    struct stat stat_;
    if (stat("/proc/thread-self/ns/cgroup", &stat_) < 0) {
        return pj_fail(err, errno, "stat /proc/self/ns/cgroup");
    }
    *out = (uint64_t)stat_.st_ino;
    return 0;
}
