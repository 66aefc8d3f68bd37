#define _GNU_SOURCE 1
#include "linux/adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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
    to->items[to->count++] = (pj_process){.pid = one->pid, .handle = -1, .created = one->start};
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

/* By one table, the dead included; NULL: none that is not younger. Who goes up by it bounds the depth, as PIDs used
 * again could make a circle. */
static const pj_stat *parent(const pj_table *table, const pj_stat *one) {
    const pj_stat *above = pj_table_find(table, one->parent);
    return above != NULL && above->start <= one->start ? above : NULL;
}

static bool descends(const pj_table *table, const pj_stat *one, pj_pid from) {
    for (size_t depth = 0; one != NULL && depth <= table->count; depth++, one = parent(table, one)) {
        if (one->parent == from) {
            return true;
        }
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
static void reap_orphans(pj_adoption *adoption, const pj_table *table) {
    size_t kept = 0;
    siginfo_t end;
    for (size_t i = 0; i < adoption->orphan_count; i++) {
        pj_process *one = &adoption->orphans[i];
        const pj_stat *line = pj_table_find(table, one->pid);
        if (line == NULL || line->start != one->created) {
            continue;
        }
        if (line->parent == getpid() && pj_stat_dead(line)) {
            waitid(P_PID, (id_t)one->pid, &end, WEXITED | WNOHANG);
        } else {
            adoption->orphans[kept++] = *one;
        }
    }
    adoption->orphan_count = kept;
}

static int spare_helpers(const pj_table *table, list *spared, pj_error *err) {
    for (size_t i = 0; i < table->count; i++) {
        if (pj_table_helps(table, &table->items[i]) && add(spared, &table->items[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pj_adoption_note(pj_adoption *adoption, const pj_table *table, pj_error *err) {
    list all = {adoption->orphans, adoption->orphan_count, adoption->orphan_count};
    const pj_pid self = getpid();
    int result = 0;
    for (size_t i = 0; result == 0 && i < table->count; i++) {
        const pj_stat *one = &table->items[i];
        if (one->parent != self && descends(table, one, self) && !has(all.items, all.count, one)) {
            result = add(&all, one, err);
        }
    }
    adoption->orphans = all.items;
    adoption->orphan_count = all.count;
    return result;
}

enum { BEFORE = 1, ROOT = 2 };

static void mark(const pj_table *table, unsigned char *marks, const pj_process *these, size_t count,
                 unsigned char with) {
    for (size_t i = 0; i < count; i++) {
        const pj_stat *line = pj_table_find(table, these[i].pid);
        if (line != NULL && line->start == these[i].created && !pj_stat_dead(line)) {
            marks[line - table->items] |= with;
        }
    }
}

static unsigned char marks_upwards(const pj_table *table, const unsigned char *marks, const pj_stat *one) {
    unsigned char found = 0;
    for (size_t depth = 0; one != NULL && depth <= table->count; depth++, one = parent(table, one)) {
        found |= marks[one - table->items];
    }
    return found;
}

/* Those from before, and what they have started since: remembered, too, for an orphan of theirs comes to us. Foreign
 * is who of them is not below a root. */
static int note_before(pj_adoption *adoption, const pj_table *table, const unsigned char *marks, list *foreign,
                       pj_error *err) {
    list known = {0};
    int result = 0;
    for (size_t i = 0; result == 0 && i < table->count; i++) {
        const pj_stat *one = &table->items[i];
        unsigned char found = pj_stat_dead(one) ? 0 : marks_upwards(table, marks, one);
        if (found == BEFORE || (marks[i] & BEFORE)) {
            result = add(&known, one, err);
        }
        if (result == 0 && found == BEFORE) {
            result = add(foreign, one, err);
        }
    }
    for (size_t i = 0; result == 0 && table->moving && i < adoption->before_count; i++) {
        const pj_process *one = &adoption->before[i];
        if (pj_table_find(table, one->pid) == NULL) { /* missed, perhaps */
            result = add(&known, &(pj_stat){.pid = one->pid, .start = one->created}, err);
        }
    }
    if (result < 0) {
        free(known.items);
        return -1;
    }
    free(adoption->before);
    adoption->before = known.items;
    adoption->before_count = known.count;
    return 0;
}

static int find_foreign(pj_adoption *adoption, const pj_table *table, const pj_process *roots, size_t root_count,
                        list *foreign, pj_error *err) {
    unsigned char *marks = calloc(table->count + 1, 1);
    if (marks == NULL) {
        return pj_fail(err, errno, "calloc");
    }
    mark(table, marks, adoption->before, adoption->before_count, BEFORE);
    mark(table, marks, roots, root_count, ROOT);
    int result = note_before(adoption, table, marks, foreign, err);
    free(marks);
    return result;
}

int pj_adoption_look(pj_adoption *adoption, const pj_process *roots, size_t root_count, pj_apart *out, pj_error *err) {
    pj_table table = {0};
    list spared = {0}, foreign = {0};
    int result = pj_procfs_scan(&table, err);
    if (result == 0) {
        reap_orphans(adoption, &table);
        result = pj_adoption_note(adoption, &table, err);
    }
    if (result == 0) {
        result = spare_helpers(&table, &spared, err);
    }
    if (result == 0) {
        result = find_foreign(adoption, &table, roots, root_count, &foreign, err);
    }
    pj_table_free(&table);
    *out = (pj_apart){spared.items, foreign.items, spared.count, foreign.count};
    if (result < 0) {
        pj_apart_free(out);
    }
    return result;
}

void pj_apart_free(pj_apart *apart) {
    free(apart->spared);
    free(apart->foreign);
    *apart = (pj_apart){0};
}
