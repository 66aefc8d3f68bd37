#include "linux/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "core/deadline.h"
#include "linux/guard.h"

enum {
    PROC_MAGIC = 0x9fa0,        /* PROC_SUPER_MAGIC, statfs(2) */
    KERNEL_THREAD = 0x00200000, /* PF_KTHREAD, include/linux/sched.h */
    FIELD_STATE = 3,            /* the numbers of proc_pid_stat(5) */
    FIELD_PARENT = 4,
    FIELD_GROUP = 5,
    FIELD_SESSION = 6,
    FIELD_FLAGS = 9,
    FIELD_THREADS = 20,
    FIELD_START = 22,
    FIELD_EXIT_SIGNAL = 38,
    FIELD_EXIT_CODE = 52,
    LINE = 2048, /* 52 fields of at most 21 bytes, and a name of at most 64 */
    LOOKS = 3,
    ROUNDS = 64,     /* that follow new PIDs */
    SPAN = 4096,     /* more of them are not worth it */
    REST = 200000,   /* nanoseconds */
    TICK = 10000000, /* nanoseconds: USER_HZ is 100 (where it is more, nobody has started in a tick that is past) */
};

/* A decimal number, perhaps negative, of at most 64 bits; advances *at only on success. */
static bool take_number(const char **at, const char *end, int64_t *out) {
    const char *next = *at;
    bool negative = next < end && *next == '-';
    next += negative;
    const char *digits = next;
    uint64_t value = 0;
    for (; next < end && *next >= '0' && *next <= '9'; next++) {
        uint64_t digit = (uint64_t)(*next - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = 10 * value + digit;
    }
    if (next == digits) {
        return false;
    }
    *out = (int64_t)(negative ? 0 - value : value);
    *at = next;
    return true;
}

static void store(pj_stat *stat, int field, int64_t value) {
    switch (field) {
    case FIELD_PARENT:
        stat->parent = value;
        break;
    case FIELD_GROUP:
        stat->group = value;
        break;
    case FIELD_SESSION:
        stat->session = value;
        break;
    case FIELD_FLAGS:
        stat->kernel = (value & KERNEL_THREAD) != 0;
        break;
    case FIELD_THREADS:
        stat->threads = value;
        break;
    case FIELD_START:
        stat->start = (uint64_t)value;
        break;
    case FIELD_EXIT_SIGNAL: /* what a thread sends its parent: nothing */
        stat->thread = value == -1;
        stat->parked = stat->parked && value == 0;
        break;
    case FIELD_EXIT_CODE:
        stat->exit_code = (int)value;
        break;
    default:
        break;
    }
}

uint64_t pj_procfs_now(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail: the clock exists and the pointer is good */
    return (uint64_t)now.tv_sec * (1000000000 / TICK) + (uint64_t)now.tv_nsec / TICK;
}

static bool is_id(int64_t value) {
    return value >= 0 && value <= INT32_MAX;
}

bool pj_parse_stat(const char *text, size_t length, pj_stat *out) {
    static const char parked[] = {"(" PJ_GUARD_PARKED ")"};
    const char *at = text, *end = text + length;
    pj_stat stat = {.exit_code = -1};
    if (!take_number(&at, end, &stat.pid) || end - at < 2 || at[0] != ' ' || at[1] != '(') {
        return false;
    }
    const char *name = at + 1;
    for (at = end; at > name && at[-1] != ')'; at--) { /* the last one: the name may hold others */
    }
    if (at == name || end - at < 2 || at[0] != ' ') {
        return false;
    }
    stat.parked = at - name == sizeof parked - 1 && memcmp(name, parked, sizeof parked - 1) == 0;
    stat.state = at[1];
    at += 2;
    int field = FIELD_PARENT;
    for (int64_t value; field <= FIELD_EXIT_CODE && at < end && *at == ' '; field++) {
        at++;
        if (!take_number(&at, end, &value)) {
            return false;
        }
        store(&stat, field, value);
    }
    bool letter = (stat.state >= 'A' && stat.state <= 'Z') || (stat.state >= 'a' && stat.state <= 'z');
    if (field <= FIELD_START || !letter || stat.pid < 1 || !is_id(stat.pid) || !is_id(stat.parent)) {
        return false;
    }
    *out = stat;
    return true;
}

static bool take_pid(const char *text, size_t length, pj_pid *out) {
    const char *at = text, *end = text + length;
    return length > 0 && *text >= '1' && *text <= '9' && take_number(&at, end, out) && at == end && is_id(*out);
}

static bool names_us(int proc) {
    char link[24];
    ssize_t length = readlinkat(proc, "self", link, sizeof link);
    pj_pid pid;
    return length > 0 && take_pid(link, (size_t)length, &pid) && pid == getpid();
}

int pj_procfs_open(pj_error *err) {
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0) {
        return pj_fail(err, errno, "open(/proc)");
    }
    struct statfs kind;
    int status = 0;
    if (fstatfs(proc, &kind) < 0) {
        status = pj_fail(err, errno, "fstatfs(/proc)");
    } else if (kind.f_type != PROC_MAGIC) {
        status = pj_fail(err, ENODEV, "fstatfs(/proc): not a procfs");
    } else if (!names_us(proc)) {
        status = pj_fail(err, ENODEV, "readlinkat(/proc/self): not the procfs of our PID namespace");
    }
    if (status < 0) {
        close(proc);
        return status;
    }
    return proc;
}

/* "PID/stat" into a buffer of 24 bytes. */
static void stat_path(pj_pid pid, char *out) {
    char digits[20];
    size_t count = 0;
    for (; pid > 0; pid /= 10) {
        digits[count++] = (char)('0' + pid % 10);
    }
    while (count > 0) {
        *out++ = digits[--count];
    }
    memcpy(out, "/stat", sizeof "/stat");
}

static int read_once(int proc, pj_pid pid, pj_stat *out, pj_error *err) {
    char text[LINE];
    stat_path(pid, text);
    int fd = openat(proc, text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return pj_fail(err, errno, "openat(/proc/PID/stat)");
    }
    ssize_t length = read(fd, text, sizeof text);
    int code = errno;
    close(fd);
    if (length < 0) {
        return pj_fail(err, code, "read(/proc/PID/stat)");
    }
    if (!pj_parse_stat(text, (size_t)length, out)) {
        return pj_fail(err, EPROTO, "read(/proc/PID/stat): unknown format");
    }
    return 0;
}

/* When a thread that is not the leader executes a program, it takes the leader's id over; who looks just then sees the
 * old leader as a dead thread. A second look tells that from a real one. */
static int read_stat(int proc, pj_pid pid, pj_stat *out, pj_error *err) {
    int status = 0;
    for (int look = 0; look < LOOKS; look++) {
        pj_stat stat;
        status = read_once(proc, pid, &stat, err);
        if (status < 0) {
            return status;
        }
        *out = stat;
        if (!stat.thread && stat.state != 'X') {
            break;
        }
    }
    return status;
}

static bool is_gone(const pj_error *err) {
    return err->code == ENOENT || err->code == ESRCH;
}

static bool is_refused(const pj_error *err) {
    return err->code == EACCES || err->code == EPERM;
}

int pj_procfs_stat_at(int proc, pj_pid pid, pj_stat *out, pj_error *err) {
    if (pid < 1 || !is_id(pid)) {
        return pj_fail(err, EINVAL, "openat(/proc/PID/stat)");
    }
    for (int look = 0; look < LOOKS; look++) {
        pj_stat stat;
        if (read_stat(proc, pid, &stat, err) == 0) {
            if (stat.thread) {
                return pj_fail(err, ESRCH, "openat(/proc/PID/stat)");
            }
            *out = stat;
            return 0;
        }
        if (!is_gone(err)) {
            return is_refused(err) ? pj_fail(err, EACCES, err->call) : -1;
        }
        if (kill((pid_t)pid, 0) < 0 && errno == ESRCH) {
            return pj_fail(err, ESRCH, err->call);
        } /* born just now, or hidden */
    }
    return pj_fail(err, EACCES, "openat(/proc/PID/stat)");
}

int pj_procfs_stat(pj_pid pid, pj_stat *out, pj_error *err) {
    int proc = pj_procfs_open(err);
    if (proc < 0) {
        return -1;
    }
    int status = pj_procfs_stat_at(proc, pid, out, err);
    close(proc);
    return status;
}

int pj_procfs_hides(bool *hides, pj_error *err) {
    int proc = pj_procfs_open(err);
    if (proc < 0) {
        return -1;
    }
    pj_stat stat;
    int status =
        pj_procfs_stat_at(proc, 1, &stat, err); /* init: always there, and another user's unless we may see all */
    close(proc);
    if (status < 0 && err->code != EACCES) {
        return -1;
    }
    *hides = status < 0;
    return 0;
}

int pj_read_ids(int fd, pj_take take, void *arg) {
    char text[4096]; /* as much as the kernel gives at once */
    uint32_t pid = 0;
    ssize_t size;
    while ((size = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < size; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (uint32_t)(text[i] - '0');
                continue;
            }
            int result = pid > 0 && pid <= INT32_MAX ? take((pid_t)pid, arg) : 0;
            if (result != 0) {
                return result;
            }
            pid = 0;
        }
    }
    return size < 0 && errno != ENODEV ? -1 : 0; /* ENODEV: the group is gone, and nobody is in it */
}

static bool add(pj_table *table, const pj_stat *stat) {
    if (table->count == table->room) {
        size_t room = table->room ? 2 * table->room : 128;
        pj_stat *items = realloc(table->items, room * sizeof *items);
        if (!items) {
            return false;
        }
        table->items = items;
        table->room = room;
    }
    size_t at = table->count++;
    for (; at > 0 && table->items[at - 1].pid > stat->pid; at--) { /* the kernel lists them in order: no step */
        table->items[at] = table->items[at - 1];
    }
    table->items[at] = *stat;
    return true;
}

static int scan_one(int proc, const char *name, size_t length, pj_table *table, pj_error *err) {
    pj_pid pid;
    pj_stat stat;
    if (!take_pid(name, length, &pid)) {
        return 0; /* not a process */
    }
    if (read_stat(proc, pid, &stat, err) == 0) {
        return add(table, &stat) ? 0 : pj_fail(err, ENOMEM, "realloc");
    }
    if (is_refused(err)) {
        table->hidden++;
        return 0;
    }
    return is_gone(err) ? 0 : -1;
}

/* The record of getdents64(2); d_name follows. */
typedef struct {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
} entry_head;

enum { NAME_AT = 19 };

static int scan_batch(int proc, const char *batch, size_t length, pj_table *table, pj_error *err) {
    for (size_t at = 0; at + sizeof(entry_head) <= length;) {
        entry_head head;
        memcpy(&head, batch + at, sizeof head);
        const char *name = batch + at + NAME_AT;
        if (scan_one(proc, name, strlen(name), table, err) < 0) {
            return -1;
        }
        at += head.size;
    }
    return 0;
}

static int walk(int proc, pj_table *table, pj_error *err) {
    char batch[4096]; /* small: the numbers in it are younger when their turn comes, and so is the guard's stack */
    long length;
    while ((length = syscall(SYS_getdents64, proc, batch, sizeof batch)) != 0) {
        if (length < 0) {
            return pj_fail(err, errno, "getdents64(/proc)");
        }
        if (scan_batch(proc, batch, (size_t)length, table, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The PID given out last in our namespace: the end of /proc/loadavg. 0: unknown, as where lxcfs has put its own file
 * there. */
static pj_pid last_pid(int proc) {
    char text[128];
    struct statfs kind;
    int fd = openat(proc, "loadavg", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t length = fstatfs(fd, &kind) == 0 && kind.f_type == PROC_MAGIC ? read(fd, text, sizeof text) : 0;
    close(fd);
    ssize_t end = length > 0 && text[length - 1] == '\n' ? length - 1 : length;
    ssize_t begin = end;
    while (begin > 0 && text[begin - 1] != ' ') {
        begin--;
    }
    pj_pid pid;
    return end > 0 && take_pid(text + begin, (size_t)(end - begin), &pid) ? pid : 0;
}

/* Looks at the PIDs of (from, to]. *missing: how many of them nobody has, or has not yet. */
static int scan_range(int proc, pj_pid from, pj_pid to, pj_table *table, int *missing, pj_error *err) {
    *missing = 0;
    for (pj_pid pid = from + 1; pid <= to; pid++) {
        pj_stat stat;
        if (pj_table_find(table, pid)) {
            continue;
        }
        if (read_stat(proc, pid, &stat, err) < 0) {
            if (!is_gone(err) && !is_refused(err)) {
                return -1;
            }
            ++*missing;
        } else if (!stat.thread && !add(table, &stat)) {
            return pj_fail(err, ENOMEM, "realloc");
        }
    }
    return 0;
}

/* A PID is given out a little before its process shows, so the missing ones get a second look after a rest. */
static int follow(int proc, pj_pid from, pj_table *table, pj_error *err) {
    pj_pid before = from;
    int missing = 0;
    bool rested = false;
    table->moving = true;
    for (int round = 0; from != 0 && round < ROUNDS; round++) {
        pj_pid to = last_pid(proc);
        if (to < from || to - from > SPAN) {
            return 0; /* unknown; or the numbers began anew */
        }
        if (to > from) {
            before = from;
            rested = false;
        } else if (missing == 0 || rested) {
            table->moving = false;
            return 0;
        } else {
            pj_sleep(REST);
            rested = true;
        }
        from = to;
        if (scan_range(proc, before, to, table, &missing, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pj_procfs_scan(pj_table *out, pj_error *err) {
    out->count = out->hidden = 0;
    int proc = pj_procfs_open(err);
    if (proc < 0) {
        return -1;
    }
    pj_pid last = last_pid(proc);
    int status = walk(proc, out, err);
    if (status == 0) {
        status = follow(proc, last, out, err);
    }
    close(proc);
    return status;
}

const pj_stat *pj_table_find(const pj_table *table, pj_pid pid) {
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->items[middle].pid < pid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < table->count && table->items[low].pid == pid ? &table->items[low] : NULL;
}

bool pj_table_helps(const pj_table *table, const pj_stat *one) {
    const pj_stat *parked = one->parked ? one : pj_table_find(table, one->parent);
    return parked && parked->parked && parked->parent == getpid();
}

void pj_table_free(pj_table *table) {
    free(table->items);
    *table = (pj_table){0};
}
