/* Descriptors, and the owner's end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/deadline.h"
#include "guard/guard.h"
#include "linux/procfs.h"
#include "linux/raw.h"

enum { PROC_MAGIC = 0x9fa0, TEXT = 1024, RETRY = 10 };

static bool is_kept(int fd, const int *keep, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (keep[i] == fd) {
            return true;
        }
    }
    return false;
}

/* Below kernel 5.9, or filtered. */
static void close_one_by_one(const int *keep, size_t count) {
    struct rlimit limit = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &limit);
    for (rlim_t fd = 0; fd < limit.rlim_cur && fd < 1 << 20; fd++) {
        if (!is_kept((int)fd, keep, count)) {
            close((int)fd);
        }
    }
}

void pj_close_others(const int *keep, size_t count) {
    unsigned from = 0;
    for (;;) {
        unsigned next = UINT32_MAX; /* the lowest that is kept, from here on */
        for (size_t i = 0; i < count; i++) {
            if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next) {
                next = (unsigned)keep[i];
            }
        }
        if (next != from && syscall(PJ_SYS_CLOSE_RANGE, from, next == UINT32_MAX ? next : next - 1, 0) < 0) {
            close_one_by_one(keep, count);
            return;
        }
        if (next == UINT32_MAX) {
            return;
        }
        from = next + 1;
    }
}

bool pj_owner_is_proc(int owner) {
    struct statfs system;
    return fstatfs(owner, &system) == 0 && (unsigned long)system.f_type == PROC_MAGIC;
}

bool pj_owner_dead(int owner, bool is_proc) {
    if (!is_proc) {
        struct pollfd ended = {.fd = owner, .events = POLLIN};
        return poll(&ended, 1, 0) == 1 && (ended.revents & POLLIN);
    }
    char text[TEXT];
    pj_stat stat;
    ssize_t size = lseek(owner, 0, SEEK_SET) < 0 ? -1 : read(owner, text, sizeof text);
    if (size < 0) {
        return errno == ESRCH; /* reaped. The descriptor stays with the process that it was opened for */
    }
    return pj_parse_stat(text, (size_t)size, &stat) && pj_stat_dead(&stat);
}

void pj_tell_owner(int socket, int kind, int first, int second, int third) {
    const pj_message message = {kind, first, second, third};
    /* There is room, as a guard says no more than four things; but there may be no memory just now, and an owner that
     * is not told waits for ever. */
    while (send(socket, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
           (errno == ENOBUFS || errno == ENOMEM || errno == EINTR)) {
        pj_sleep(RETRY * PJ_MS);
    }
}
