#include "core/pids.h"

#include <stdlib.h>

bool pj_pids_add(pj_pids *list, pj_pid pid) {
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        pj_pid *items = realloc(list->items, room * sizeof *items);
        if (!items) {
            return false;
        }
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = pid;
    return true;
}

static void sift(pj_pid *items, size_t at, size_t count) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && items[child + 1] > items[child]) {
            child++;
        }
        if (items[at] >= items[child]) {
            return;
        }
        pj_pid moved = items[at];
        items[at] = items[child];
        items[child] = moved;
    }
}

/* A heapsort of our own: the guard has no libc, and qsort() of glibc allocates. */
void pj_pids_sort(pj_pids *list) {
    for (size_t at = list->count / 2; at-- > 0;) {
        sift(list->items, at, list->count);
    }
    for (size_t end = list->count; end-- > 1;) {
        pj_pid largest = list->items[0];
        list->items[0] = list->items[end];
        list->items[end] = largest;
        sift(list->items, 0, end);
    }
    size_t kept = 0;
    for (size_t at = 0; at < list->count; at++) {
        if (kept == 0 || list->items[kept - 1] != list->items[at]) {
            list->items[kept++] = list->items[at];
        }
    }
    list->count = kept;
}

bool pj_pids_has(const pj_pids *sorted, pj_pid pid) {
    size_t low = 0, high = sorted->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sorted->items[middle] < pid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sorted->count && sorted->items[low] == pid;
}

void pj_pids_free(pj_pids *list) {
    free(list->items);
    *list = (pj_pids){0};
}
