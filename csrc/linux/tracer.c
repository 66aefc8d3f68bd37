#include "linux/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

pj_pid pj_parse_status(const char *name, const char *text, size_t length) {
    size_t size = strlen(name), at = 0;
    while (at + size <= length && memcmp(text + at, name, size) != 0) {
        at++;
    }
    pj_pid number = 0;
    for (at += size; at < length && text[at] >= '0' && text[at] <= '9' && number <= INT32_MAX; at++) {
        number = 10 * number + (text[at] - '0');
    }
    return number <= INT32_MAX ? number : 0;
}

/* Of the process or thread `id`, whose folder is in `dir`. Gone, or hidden from us: 0. */
static int read_number(int dir, const char *id, const char *name, pj_pid *out, pj_error *err) {
    char path[32] = "", text[512]; /* what we want is in the first ten lines */
    size_t length = strlen(id);
    *out = 0;
    if (length + sizeof "/status" > sizeof path) {
        return 0;
    }
    memcpy(path, id, length + 1);
    memcpy(path + length, "/status", sizeof "/status");
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        bool passed = errno == ENOENT || errno == ESRCH || errno == EACCES || errno == EPERM;
        return passed ? 0 : pj_fail(err, errno, "openat(/proc/PID/status)");
    }
    ssize_t size = read(fd, text, sizeof text);
    close(fd);
    *out = size > 0 ? pj_parse_status(name, text, (size_t)size) : 0;
    return 0;
}

/* TracerPid is the id of a thread: of the process that it belongs to, unless that is hidden. */
static int add_tracer(int proc, int tasks, const char *task, pj_pids *out, pj_error *err) {
    pj_pid tracer, leader;
    int status = read_number(tasks, task, "\nTracerPid:\t", &tracer, err);
    if (status < 0 || tracer == 0) {
        return status;
    }
    char digits[24] = "", *at = digits + sizeof digits - 1;
    for (pj_pid rest = tracer; rest > 0; rest /= 10) {
        *--at = (char)('0' + rest % 10);
    }
    if (read_number(proc, at, "\nTgid:\t", &leader, err) < 0) {
        return -1;
    }
    return pj_pids_add(out, leader > 0 ? leader : tracer) ? 0 : pj_fail(err, ENOMEM, "realloc");
}

enum { SIZE_AT = 16, NAME_AT = 19 }; /* of a record of getdents64(2) */

static int add_tracers(int proc, int tasks, pj_pids *out, pj_error *err) {
    char batch[1024];
    long length;
    while ((length = syscall(SYS_getdents64, tasks, batch, sizeof batch)) > 0) {
        uint16_t size;
        for (long at = 0; at < length; at += size) {
            memcpy(&size, batch + at + SIZE_AT, sizeof size);
            const char *name = batch + at + NAME_AT;
            if (name[0] != '.' && add_tracer(proc, tasks, name, out, err) < 0) {
                return -1;
            }
        }
    }
    return length < 0 ? pj_fail(err, errno, "getdents64(/proc/self/task)") : 0;
}

int pj_find_tracers(int proc, pj_pids *out, pj_error *err) {
    int tasks = openat(proc, "self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tasks < 0) {
        return pj_fail(err, errno, "openat(/proc/self/task)");
    }
    out->count = 0;
    int status = add_tracers(proc, tasks, out, err);
    close(tasks);
    pj_pids_sort(out);
    return status;
}
