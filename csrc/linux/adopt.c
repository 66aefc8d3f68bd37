#define _GNU_SOURCE 1
#include "linux/adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux/guard.h"
#include "linux/procfs.h"

typedef struct {
    pj_process *items;
    size_t count, room;
} list;

static int add(list *to, const pj_stat *one, pj_error *err) {
    if (to->count == to->room) {
        size_t room = to->room == 0 ? 16 : to->room * 2;
        pj_process *items = realloc(to->items, room * sizeof *items);
        if (items == NULL) {
            return pj_fail(err, errno, "realloc");
        }
        to->items = items;
        to->room = room;
    }
    to->items[to->count++] = (pj_process){one->pid, -1, one->start};
    return 0;
}

static bool has(const pj_process *items, size_t count, const pj_stat *one) {
    for (size_t i = 0; i < count; i++) {
        if (items[i].pid == one->pid && items[i].created == one->start) {
            return true;
        }
    }
    return false;
}

/* Descendants by one table, the dead included. Each link goes up to one that is not younger; the depth is bounded, as
 * PIDs used again could make a circle. */
static bool descends(const pj_table *table, const pj_stat *one, pj_pid from) {
    const pj_stat *at = one;
    for (size_t depth = 0; at != NULL && depth <= table->count; depth++) {
        if (at->parent == from) {
            return true;
        }
        const pj_stat *above = pj_table_find(table, at->parent);
        at = above != NULL && above->start <= at->start ? above : NULL;
    }
    return false;
}

/* ---- begin and end ---- */

static int note_descendants(pj_adoption *adoption, pj_error *err) {
    pj_table table = {0};
    list before = {0};
    int result = pj_procfs_scan(&table, err);
    for (size_t i = 0; result == 0 && i < table.count; i++) {
        if (!pj_stat_dead(&table.items[i]) && descends(&table, &table.items[i], getpid())) {
            result = add(&before, &table.items[i], err);
        }
    }
    pj_table_free(&table);
    adoption->before = before.items;
    adoption->before_count = before.count;
    return result;
}

void pj_adoption_free(pj_adoption *adoption) {
    free(adoption->before);
    free(adoption->orphans);
    free(adoption);
}

int pj_adoption_begin(pj_adoption **out, pj_error *err) {
    int was = 0;
    pj_adoption *adoption = calloc(1, sizeof *adoption);
    if (adoption == NULL) {
        return pj_fail(err, errno, "calloc");
    }
    if (prctl(PR_GET_CHILD_SUBREAPER, &was) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
        int code = errno;
        pj_adoption_free(adoption);
        return pj_fail(err, code, "prctl");
    }
    adoption->was_subreaper = was != 0;
    if (note_descendants(adoption, err) < 0) {
        pj_adoption_end(adoption);
        return -1;
    }
    *out = adoption;
    return 0;
}

void pj_adoption_end(pj_adoption *adoption) {
    if (!adoption->was_subreaper) {
        prctl(PR_SET_CHILD_SUBREAPER, 0);
    }
    pj_adoption_free(adoption);
}

/* ---- a look ---- */

/* Ours to reap: a zombie that came to us as an orphan. Whoever is our child from birth is never touched. */
static bool reap_orphan(const pj_adoption *adoption, const pj_stat *one) {
    siginfo_t end;
    if (one->parent != getpid() || !pj_stat_dead(one) || !has(adoption->orphans, adoption->orphan_count, one)) {
        return false;
    }
    waitid(P_PID, (id_t)one->pid, &end, WEXITED | WNOHANG);
    return true;
}

/* A guard is the only child of a parked process, which is a child of ours (linux/guard.h). */
static int spare_helpers(const pj_table *table, list *spared, pj_error *err) {
    for (size_t i = 0; i < table->count; i++) {
        const pj_stat *parked = &table->items[i];
        if (parked->parent != getpid() || !pj_guard_is_parked(parked->pid)) {
            continue;
        }
        int result = add(spared, parked, err);
        for (size_t k = 0; result == 0 && k < table->count; k++) {
            if (table->items[k].parent == parked->pid) {
                result = add(spared, &table->items[k], err);
            }
        }
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

/* Who lives below us under another parent now, or did so before and still lives. */
static int note_orphans(pj_adoption *adoption, const pj_table *table, pj_error *err) {
    list seen = {0};
    for (size_t i = 0; i < table->count; i++) {
        const pj_stat *one = &table->items[i];
        if (reap_orphan(adoption, one)) {
            continue;
        }
        bool known = has(adoption->orphans, adoption->orphan_count, one);
        if ((known || (one->parent != getpid() && descends(table, one, getpid()))) && add(&seen, one, err) < 0) {
            free(seen.items);
            return -1;
        }
    }
    free(adoption->orphans);
    adoption->orphans = seen.items;
    adoption->orphan_count = seen.count;
    return 0;
}

int pj_adoption_look(pj_adoption *adoption, pj_process **spared, size_t *count, pj_error *err) {
    pj_table table = {0};
    list found = {0};
    int result = pj_procfs_scan(&table, err);
    if (result == 0) {
        result = note_orphans(adoption, &table, err);
    }
    if (result == 0) {
        result = spare_helpers(&table, &found, err);
    }
    for (size_t i = 0; result == 0 && i < table.count; i++) {
        if (has(adoption->before, adoption->before_count, &table.items[i])) {
            result = add(&found, &table.items[i], err);
        }
    }
    pj_table_free(&table);
    if (result < 0) {
        free(found.items);
        return -1;
    }
    *spared = found.items;
    *count = found.count;
    return 0;
}
