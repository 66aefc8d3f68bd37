/* NtQuerySystemInformation(SystemProcessInformation): what Toolhelp itself is made of. Unlike Toolhelp it tells
 * creation times, so that nobody has to be opened, and no refusal can hide a child. */
#include "win/snapshot.h"

#include <stdlib.h>
#include <winternl.h>

enum { FIRST_SIZE = 1 << 16, MOST_SIZE = 1 << 28, SLACK = 1 << 14 };

#define LENGTH_MISMATCH ((NTSTATUS)0xC0000004)

/* The head of SYSTEM_PROCESS_INFORMATION; <winternl.h> hides some of it under "Reserved". */
typedef struct {
    ULONG next, threads;
    LARGE_INTEGER reserved[3];
    LARGE_INTEGER created, user, kernel;
    UNICODE_STRING image;
    LONG priority;
    HANDLE pid, parent;
} record;

static int query(char **out, pj_error *err) {
    for (ULONG size = FIRST_SIZE, needed = 0; size <= MOST_SIZE; size = needed > size ? needed + SLACK : 2 * size) {
        char *buffer = malloc(size);
        if (!buffer) {
            return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "malloc");
        }
        NTSTATUS status = NtQuerySystemInformation(SystemProcessInformation, buffer, size, &needed);
        if (status >= 0) {
            *out = buffer;
            return 0;
        }
        free(buffer);
        if (status != LENGTH_MISMATCH) {
            return pj_fail(err, (int)RtlNtStatusToDosError(status), "NtQuerySystemInformation");
        }
    }
    return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "NtQuerySystemInformation");
}

static const record *next(const record *at) {
    return at->next ? (const record *)((const char *)at + at->next) : NULL;
}

static int by_parent(const void *a, const void *b) {
    pj_pid left = ((const pj_entry *)a)->parent, right = ((const pj_entry *)b)->parent;
    return (left > right) - (left < right);
}

/* A process without threads has ended, and is kept in the list by somebody's handle only. */
int pj_snapshot_take(pj_snapshot *out, pj_error *err) {
    char *buffer;
    size_t count = 0;
    if (query(&buffer, err) < 0) {
        return -1;
    }
    for (const record *at = (const record *)buffer; at; at = next(at)) {
        count++;
    }
    pj_entry *items = malloc((count ? count : 1) * sizeof *items);
    if (!items) {
        free(buffer);
        return pj_fail(err, ERROR_NOT_ENOUGH_MEMORY, "malloc");
    }
    count = 0;
    for (const record *at = (const record *)buffer; at; at = next(at)) {
        if (at->threads > 0) {
            items[count++] =
                (pj_entry){(pj_pid)(intptr_t)at->pid, (pj_pid)(intptr_t)at->parent, (uint64_t)at->created.QuadPart};
        }
    }
    free(buffer);
    qsort(items, count, sizeof *items, by_parent);
    *out = (pj_snapshot){items, count};
    return 0;
}

void pj_snapshot_free(pj_snapshot *snapshot) {
    free(snapshot->items);
    *snapshot = (pj_snapshot){0};
}

const pj_entry *pj_snapshot_find(const pj_snapshot *snapshot, pj_pid pid) {
    for (size_t at = 0; at < snapshot->count; at++) {
        if (snapshot->items[at].pid == pid) {
            return &snapshot->items[at];
        }
    }
    return NULL;
}

const pj_entry *pj_snapshot_children(const pj_snapshot *snapshot, pj_pid pid, size_t *count) {
    size_t low = 0, high = snapshot->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (snapshot->items[middle].parent < pid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (high = low; high < snapshot->count && snapshot->items[high].parent == pid;) {
        high++;
    }
    *count = high - low;
    return snapshot->items + low;
}
