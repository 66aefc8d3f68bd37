#include "bsd/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>

#include <sys/sysctl.h>

/* The records below kern.proc.`which`; `arg` where the name takes one, else -1. *records is to be freed. */
static int fetch(int which, int arg, char **records, size_t *size, pj_error *err) {
    int name[4] = {CTL_KERN, KERN_PROC, which, arg};
    for (;;) {
        size_t room = 0;
        if (sysctl(name, arg < 0 ? 3 : 4, NULL, &room, NULL, 0) < 0) {
            return pj_fail(err, errno, "sysctl(kern.proc)");
        }
        room += room / 8 + 4 * pj_kinfo_size; /* they go on starting */
        char *buffer = malloc(room);
        if (buffer == NULL) {
            return pj_fail(err, ENOMEM, "malloc");
        }
        if (sysctl(name, arg < 0 ? 3 : 4, buffer, &room, NULL, 0) == 0) {
            *records = buffer;
            *size = room;
            return 0;
        }
        int code = errno;
        free(buffer);
        if (code != ENOMEM) { /* it had become too small */
            return pj_fail(err, code, "sysctl(kern.proc)");
        }
    }
}

static int by_pid(const void *a, const void *b) {
    pj_pid left = ((const pj_entry *)a)->pid, right = ((const pj_entry *)b)->pid;
    return (left > right) - (left < right);
}

static int look(int which, int arg, pj_snapshot *out, pj_error *err) {
    int64_t epoch = pj_kinfo_epoch();
    char *records;
    size_t size;
    if (fetch(which, arg, &records, &size, err) < 0) {
        return -1;
    }
    pj_snapshot found = {.count = size / pj_kinfo_size};
    found.items = malloc((found.count + 1) * sizeof *found.items);
    if (found.items == NULL) {
        free(records);
        return pj_fail(err, ENOMEM, "malloc");
    }
    for (size_t at = 0; at < found.count; at++) {
        pj_kinfo_read(records + at * pj_kinfo_size, epoch, &found.items[at]);
    }
    free(records);
    qsort(found.items, found.count, sizeof *found.items, by_pid);
    *out = found;
    return 0;
}

int pj_look_all(pj_snapshot *out, pj_error *err) {
    return look(pj_kinfo_all, -1, out, err);
}

int pj_look_group(pj_pid group, pj_snapshot *out, pj_error *err) {
    if (look(KERN_PROC_PGRP, (int)group, out, err) < 0) {
        if (err->code != ESRCH) { /* FreeBSD says so of a group that nobody is in */
            return -1;
        }
        *out = (pj_snapshot){0};
    }
    return 0;
}

int pj_look(pj_pid pid, pj_entry *out, pj_error *err) {
    pj_snapshot found;
    if (look(KERN_PROC_PID, (int)pid, &found, err) < 0) {
        return -1;
    }
    bool there = found.count == 1 && found.items[0].pid == pid;
    if (there) {
        *out = found.items[0];
    }
    pj_snapshot_free(&found);
    return there ? 0 : pj_fail(err, ESRCH, "sysctl(kern.proc.pid)");
}

const pj_entry *pj_snapshot_find(const pj_snapshot *snapshot, pj_pid pid) {
    const pj_entry key = {.pid = pid};
    return snapshot->count == 0 ? NULL : bsearch(&key, snapshot->items, snapshot->count, sizeof key, by_pid);
}

void pj_snapshot_free(pj_snapshot *snapshot) {
    free(snapshot->items);
    *snapshot = (pj_snapshot){0};
}
