#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/group_job.h"
#include "posix/groups.h"
#include "posix/spawn.h"

/* ---- programs ---- */

void pj_group_append(pj_group_job *job, pj_program *program) {
    pj_program **link = &job->programs;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = program;
}

pj_program *pj_group_program(const pj_process *process, pj_pid group, int terminal) {
    pj_program *program = malloc(sizeof *program);
    if (program != NULL) {
        *program = (pj_program){.refs = 1, .process = *process, .group = group, .terminal = terminal};
        program->by_handle = group != 0 && pj_group_signal(process, 0) == 0; /* EPERM may be a sandbox's */
    }
    return program;
}

int pj_group_adopt(pj_group_job *job, pj_error *err) {
    pj_pid pid = job->joined->pid;
    if (pid == 0) {
        return 0;
    }
    pj_process process;
    if (pj_process_open(pid, &process, err) < 0) {
        if (err->code != ESRCH) {
            return -1;
        }
        job->joined->pid = 0;
        return 0;
    }
    if (process.created != job->joined->created) { /* it did not execute, was reaped, and its PID is somebody else's */
        pj_process_close(&process);
        job->joined->pid = 0;
        return 0;
    }
    bool leads = getpgid((pid_t)pid) == (pid_t)pid;
    pj_program *program = pj_group_program(&process, leads ? pid : 0, leads ? pj_terminal_of(pid) : -1);
    if (program == NULL) {
        pj_process_close(&process);
        return pj_fail(err, ENOMEM, "malloc");
    }
    pj_group_append(job, program);
    job->joined->pid = 0;
    return 0;
}

/* ---- the program's exit status ---- */

/* 0: it ended. */
static int collected(pj_group_job *job, pj_program *program, int *returncode, pj_error *err) {
    pj_family_lock(&job->kin);
    pj_program_look(program);
    int result = 1;
    if (program->ended) {
        program->collected = true;
        pj_program_reap(program, false);
        *returncode = program->returncode;
        result = program->known ? 0 : pj_fail(err, ECHILD, "waitid");
    }
    pj_family_unlock(&job->kin);
    return result;
}

/* The caller's child all the same: but waitpid() would give away the proof that its group is ours. */
static int group_collect(pj_job *base, pj_deadline deadline, int *returncode, pj_error *err) {
    pj_group_job *job = pj_group_of(base);
    pj_family_lock(&job->kin);
    int result = pj_group_adopt(job, err);
    pj_program *program = job->programs;
    pj_family_unlock(&job->kin);
    if (result < 0) {
        return -1;
    }
    if (program == NULL) {
        return pj_fail(err, ECHILD, "waitid");
    }
    for (;;) {
        int status;
        bool known;
        result = collected(job, program, returncode, err);
        if (result != 1 || pj_now() >= deadline) {
            return result;
        }
        if (program->group != 0) {
            pj_terminal_follow(&program->process, program->by_handle);
        }
        if (pj_process_wait(&program->process, deadline, &status, &known, err) < 0) {
            return -1;
        }
    }
}

/* ---- starting ---- */

/* A program that cannot be pinned cannot be contained. Its group is still ours: the leader is not reaped. */
static int undo(pj_pid pid, pj_pid group, int terminal) {
    if (group != 0) {
        killpg((pid_t)group, SIGKILL);
    } else {
        kill((pid_t)pid, SIGKILL);
    }
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {
    }
    pj_terminal_back(terminal, pid);
    return -1;
}

/* Where SIGCHLD is ignored, or somebody waits for any child, it may be reaped already, and the PID somebody else's:
 * only who is our child after we have pinned it is the right one. */
static int pin_child(pj_pid pid, pj_process *out, pj_error *err) {
    siginfo_t info;
    *out = (pj_process){.pid = pid, .handle = -1};
    if (pj_process_open(pid, out, err) < 0) {
        return err->code == ESRCH ? 0 : -1;
    }
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD) {
        pj_process_close(out);
        *out = (pj_process){.pid = pid, .handle = -1};
    }
    return 0;
}

static int group_spawn(pj_job *base, const pj_spec *spec, pj_child *out, pj_error *err) {
    pj_group_job *job = pj_group_of(base);
    bool plain = spec->process_group < 0 && !spec->start_new_session;
    pj_place place = {.cgroup_fd = -1, .new_group = plain, .terminal = plain ? pj_terminal_of(getpgrp()) : -1};
    pj_child child;
    if (pj_spawn(spec, &place, &child, err) < 0) {
        pj_terminal_back(place.terminal, 0);
        return -1;
    }
    pj_pid pid = child.process.pid;
    if (child.child_errno != 0) {
        pj_terminal_back(place.terminal, pid);
        *out = child;
        return 0;
    }
    pj_pid group = spec->process_group > 0 ? 0 : pid;
    pj_process process;
    if (pin_child(pid, &process, err) < 0) {
        return undo(pid, group, place.terminal);
    }
    pj_program *program = pj_group_program(&process, group, place.terminal);
    if (program == NULL) {
        pj_process_close(&process);
        pj_fail(err, ENOMEM, "malloc");
        return undo(pid, group, place.terminal);
    }
    pj_family_lock(&job->kin);
    pj_group_append(job, program);
    if (group == 0) {
        base->denied |= PJ_INHERITED; /* what it starts is in a group that is not ours */
    }
    pj_family_unlock(&job->kin);
    *out = child;
    return 0;
}

/* In a child that subprocess forked, with memory of its own. A group or session that was asked for is left as it is. */
static int group_join(pj_job *base, pj_error *err) {
    pj_group_job *job = pj_group_of(base);
    pid_t parents = getpgid(getppid());
    if (parents == getpgrp()) {
        int terminal = pj_terminal_of(getpgrp());
        if (setpgid(0, 0) < 0) {
            return pj_fail(err, errno, "setpgid");
        }
        pj_terminal_give(terminal, getpid());
    }
    pj_process self;
    if (pj_process_open(getpid(), &self, err) < 0) {
        return -1;
    }
    job->joined->created = self.created;
    job->joined->pid = self.pid;
    pj_process_close(&self);
    return 0;
}

/* ---- making and unmaking ---- */

static void group_probe(const char *guard, pj_probe *out) {
    (void)guard;
    *out = (pj_probe){.available = true, .guarantees = pj_group_guarantees};
}

static int group_create(const pj_create *how, pj_job **out, pj_error *err) {
    pj_group_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return pj_fail(err, ENOMEM, "calloc");
    }
    job->joined = mmap(NULL, sizeof *job->joined, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0);
    if (job->joined == MAP_FAILED) {
        int code = errno;
        free(job);
        return pj_fail(err, code, "mmap");
    }
    job->head = (pj_job){.backend = &pj_group_backend, .parent = how->parent, .keep = how->keep};
    if (!pj_family_join(&job->kin, how->parent != NULL ? &pj_group_of(how->parent)->kin : NULL)) {
        munmap(job->joined, sizeof *job->joined);
        free(job);
        return pj_fail(err, ENOMEM, "calloc");
    }
    *out = &job->head;
    return 0;
}

static int group_release(pj_job *base, pj_error *err) {
    (void)err;
    base->keep = true;
    return 0;
}

static void free_job(pj_group_job *job) {
    pj_family_lock(&job->kin);
    while (job->programs != NULL) {
        pj_program *program = job->programs;
        job->programs = program->next;
        pj_program_unref(program);
    }
    pj_family_unlock(&job->kin);
    pj_family_leave(&job->kin);
    munmap(job->joined, sizeof *job->joined);
    free(job);
}

/* A status that nobody collected yet stays for the caller's waitpid(). */
static void group_close(pj_job *base) {
    pj_group_job *job = pj_group_of(base);
    pj_family_lock(&job->kin);
    for (pj_program *program = job->programs; program != NULL; program = program->next) {
        pj_program_look(program);
        if (program->collected) {
            pj_program_reap(program, true);
        }
    }
    pj_family_unlock(&job->kin);
    free_job(job);
}

static void group_abandon(pj_job *base) {
    free_job(pj_group_of(base));
}

const pj_backend pj_group_backend = {
    .name = "process-group",
    .probe = group_probe,
    .create = group_create,
    .spawn = group_spawn,
    .join = group_join,
    .list = pj_group_list,
    .contains = pj_group_contains,
    .signal = pj_group_send,
    .kill = pj_group_kill,
    .wait = pj_group_wait,
    .collect = group_collect,
    .release = group_release,
    .close = group_close,
    .abandon = group_abandon,
};
