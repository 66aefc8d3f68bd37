#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "posix/group_job.h"
#include "posix/groups.h"

/* The programs of a job and of all jobs inside it, each with a reference. */
typedef struct {
    pj_program **items;
    size_t count, room;
} roll;

static bool add(roll *list, pj_program *program) {
    if (list->count == list->room) {
        size_t room = list->room != 0 ? 2 * list->room : 16;
        pj_program **items = realloc(list->items, room * sizeof *items);
        if (items == NULL) {
            return false;
        }
        list->items = items;
        list->room = room;
    }
    program->refs++;
    list->items[list->count++] = program;
    return true;
}

static void release_roll(pj_group_job *job, roll *list) {
    pj_family_lock(&job->kin);
    for (size_t i = 0; i < list->count; i++) {
        pj_program_unref(list->items[i]);
    }
    pj_family_unlock(&job->kin);
    free(list->items);
}

static int call_roll(pj_group_job *job, roll *out, pj_error *err) {
    roll list = {0};
    int result = 0;
    pj_family_lock(&job->kin);
    for (pj_kin *kin = &job->kin; kin != NULL && result == 0; kin = pj_family_next(&job->kin, kin)) {
        pj_group_job *member = PJ_KIN_OF(pj_group_job, kin, kin);
        result = pj_group_adopt(member, err);
        for (pj_program *program = member->programs; program != NULL && result == 0; program = program->next) {
            if (!add(&list, program)) {
                result = pj_fail(err, ENOMEM, "realloc");
            }
        }
    }
    pj_family_unlock(&job->kin);
    if (result < 0) {
        release_roll(job, &list);
        return -1;
    }
    *out = list;
    return 0;
}

/* ---- looking ---- */

/* The groups that are ours at this moment, and the living programs that lead none. */
static int proven(pj_group_job *job, const roll *list, pj_pids *groups, pj_pids *loners, pj_error *err) {
    int result = 0;
    pj_family_lock(&job->kin);
    for (size_t i = 0; i < list->count && result == 0; i++) {
        pj_program *program = list->items[i];
        int holds = pj_program_holds(program, err);
        bool added = true, alive = false;
        if (holds < 0) {
            result = -1;
        } else if (holds && program->group != 0) {
            added = pj_pids_add(groups, program->group);
        } else if (holds) {
            result = pj_process_alive(&program->process, &alive, err);
            added = !alive || pj_pids_add(loners, program->process.pid);
        }
        if (!added) {
            result = pj_fail(err, ENOMEM, "realloc");
        }
    }
    pj_family_unlock(&job->kin);
    pj_pids_sort(groups);
    return result;
}

/* Who lives in the groups. A group whose number was still ours after the look was ours throughout, for an empty one
 * whose leader was reaped is never filled again; else the look is repeated without it. */
static int look(pj_group_job *job, const roll *list, pj_pids *out, pj_error *err) {
    for (;;) {
        pj_pids groups = {0}, after = {0}, found = {0}, loners = {0};
        bool same = false;
        int result = proven(job, list, &groups, &found, err);
        if (result == 0) {
            result = pj_group_members(&groups, &found, err);
        }
        if (result == 0) {
            result = proven(job, list, &after, &loners, err);
            same = after.count == groups.count;
        }
        pj_pids_free(&groups);
        pj_pids_free(&after);
        pj_pids_free(&loners);
        if (result == 0 && same) {
            pj_pids_sort(&found);
            *out = found;
            return 0;
        }
        pj_pids_free(&found);
        if (result < 0) {
            return -1;
        }
    }
}

int pj_group_list(pj_job *base, pj_pids *out, pj_error *err) {
    pj_group_job *job = pj_group_of(base);
    roll list;
    if (call_roll(job, &list, err) < 0) {
        return -1;
    }
    int result = look(job, &list, out, err);
    release_roll(job, &list);
    return result;
}

/* All but the caller. */
static int others(pj_group_job *job, const roll *list, pj_pids *out, pj_error *err) {
    if (look(job, list, out, err) < 0) {
        return -1;
    }
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        if (out->items[i] != getpid()) {
            out->items[kept++] = out->items[i];
        }
    }
    out->count = kept;
    return 0;
}

/* A pin without a start time gets it from a second look, which is its own if it lives afterwards. */
static bool is(const pj_process *program, const pj_process *pinned) {
    pj_process whole = *pinned;
    pj_error unused;
    if (program->pid != pinned->pid) {
        return false;
    }
    if (pinned->created == 0 && pj_process_open(pinned->pid, &whole, &unused) == 0) {
        pj_process_close(&whole);
    }
    return program->created == whole.created;
}

int pj_group_contains(pj_job *base, const pj_process *process, bool *out, pj_error *err) {
    pj_group_job *job = pj_group_of(base);
    roll list;
    bool alive, inside = false;
    pid_t group = getpgid((pid_t)process->pid); /* believed if the process lives after it */
    if (group < 0 && errno != ESRCH) {
        return pj_fail(err, errno, "getpgid");
    }
    if (call_roll(job, &list, err) < 0) {
        return -1;
    }
    int result = 0;
    pj_family_lock(&job->kin);
    for (size_t i = 0; i < list.count && !inside && result >= 0; i++) {
        pj_program *program = list.items[i];
        if (program->group != 0 ? program->group == group : is(&program->process, process)) {
            result = pj_program_holds(program, err);
            inside = result > 0;
        }
    }
    pj_family_unlock(&job->kin);
    release_roll(job, &list);
    if (result < 0 || pj_process_alive(process, &alive, err) < 0) {
        return -1;
    }
    *out = inside && alive;
    return 0;
}

/* ---- acting ---- */

/* In the group that the caller is in, by setpgid() of its own. */
static int signal_others(pj_program *program, int sig, pj_error *err) {
    pj_pids group = {0}, found = {0};
    int result = pj_program_holds(program, err);
    if (result <= 0) {
        return result;
    }
    result = pj_pids_add(&group, program->group) ? 0 : pj_fail(err, ENOMEM, "realloc");
    if (result == 0) {
        result = pj_group_members(&group, &found, err);
    }
    for (size_t i = 0; i < found.count && result == 0; i++) {
        pj_process member;
        if (found.items[i] == getpid()) {
            continue;
        }
        if (pj_process_open(found.items[i], &member, err) < 0) {
            result = err->code == ESRCH ? 0 : -1;
            continue;
        }
        if (getpgid((pid_t)member.pid) == (pid_t)program->group && pj_process_signal(&member, sig, err) < 0 &&
            err->code != ESRCH && err->code != EPERM) {
            result = -1;
        }
        pj_process_close(&member);
    }
    pj_pids_free(&group);
    pj_pids_free(&found);
    return result;
}

/* Under the lock: nobody of us reaps a leader between the proof and the signal. One refusal keeps it from no other. */
static int strike(pj_group_job *job, const roll *list, int sig, pj_error *err) {
    int result = 0;
    pj_error first;
    pj_family_lock(&job->kin);
    for (size_t i = 0; i < list->count; i++) {
        pj_program *program = list->items[i];
        bool ours = program->group != 0 && program->group == getpgrp();
        if ((ours ? signal_others(program, sig, &first) : pj_program_signal(program, sig, &first)) < 0 && result == 0) {
            *err = first;
            result = -1;
        }
    }
    pj_family_unlock(&job->kin);
    return result;
}

int pj_group_send(pj_job *base, int sig, pj_error *err) {
    pj_group_job *job = pj_group_of(base);
    roll list;
    if (call_roll(job, &list, err) < 0) {
        return -1;
    }
    int result = strike(job, &list, sig, err);
    release_roll(job, &list);
    return result;
}

static int await(pj_pid pid, pj_deadline deadline, pj_error *err) {
    pj_process process;
    int status;
    bool known;
    if (pj_process_open(pid, &process, err) < 0) {
        return err->code == ESRCH ? 0 : -1;
    }
    int result = pj_process_wait(&process, deadline, &status, &known, err);
    pj_process_close(&process);
    return result;
}

/* Until nobody is left: with `sig`, each look is preceded by a strike. */
static int until_empty(pj_group_job *job, int sig, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    for (;;) {
        roll list;
        pj_pids left = {0};
        if (call_roll(job, &list, err) < 0) {
            return -1;
        }
        int result = sig != 0 ? strike(job, &list, sig, err) : 0;
        if (result == 0) {
            result = others(job, &list, &left, err);
        }
        release_roll(job, &list);
        if (result == 0 && left.count > 0 && pj_now() >= deadline) {
            *survivors = left;
            return 1;
        }
        bool empty = left.count == 0;
        if (result == 0 && !empty) {
            result = await(left.items[0], sig != 0 ? pj_earlier(deadline, pj_now() + 20 * PJ_MS) : deadline, err);
        }
        pj_pids_free(&left);
        if (result < 0 || empty) {
            return result;
        }
    }
}

int pj_group_kill(pj_job *base, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    return until_empty(pj_group_of(base), SIGKILL, deadline, survivors, err);
}

int pj_group_wait(pj_job *base, pj_deadline deadline, pj_error *err) {
    pj_pids left = {0};
    int result = until_empty(pj_group_of(base), 0, deadline, &left, err);
    pj_pids_free(&left);
    return result;
}
