#define _GNU_SOURCE 1
#include "posix/program.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/groups.h"

void pj_program_look(pj_program *program) {
    siginfo_t info = {0};
    if (program->reaped) {
        return;
    }
    if (waitid(P_PID, (id_t)program->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
        if (errno != ECHILD) {
            return; /* EINTR: as if not looked */
        }
        program->ended = program->reaped = true; /* by somebody else's wait(), or SIGCHLD is ignored */
    } else if (info.si_pid != 0) {
        program->ended = program->known = true;
        program->returncode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    }
    if (program->ended) {
        pj_terminal_back(program->terminal, program->group);
        program->terminal = -1;
    }
}

/* Whether only zombies have the group's number, if anybody: then nobody can come to it any more. */
static int is_empty(const pj_program *program, bool *empty, pj_error *err) {
    pj_pid number = program->group;
    const pj_pids group = {&number, 1, 1};
    pj_pids found = {0};
    int result = pj_group_members(&group, &found, err);
    if (result == 0) {
        *empty = found.count == 0;
    }
    pj_pids_free(&found);
    return result;
}

int pj_program_holds(pj_program *program, pj_error *err) {
    pj_program_look(program);
    if (!program->reaped) {
        return 1;
    }
    if (program->by_handle) {
        return pj_group_signal(&program->process, 0) == 0 || errno == EPERM;
    }
    if (program->group == 0 || program->over) {
        return 0;
    }
    if (is_empty(program, &program->over, err) < 0) {
        return -1;
    }
    return program->over ? 0 : pj_fail(err, ECHILD, "waitid");
}

void pj_program_reap(pj_program *program, bool anyway) {
    bool needed = !anyway && !program->by_handle && program->group != 0;
    pj_error ignored;
    if (!program->ended || program->reaped) {
        return;
    }
    if (needed && (is_empty(program, &program->over, &ignored) < 0 || !program->over)) {
        return;
    }
    while (waitpid((pid_t)program->process.pid, NULL, WNOHANG) < 0 && errno == EINTR) {
    }
    program->reaped = true;
}

static int signal_group(const pj_program *program, int sig) {
    return program->by_handle ? pj_group_signal(&program->process, sig) : killpg((pid_t)program->group, sig);
}

int pj_program_signal(pj_program *program, int sig, pj_error *err) {
    int holds = pj_program_holds(program, err);
    if (holds <= 0) {
        return holds;
    }
    if (program->group == 0) {
        if (pj_process_signal(&program->process, sig, err) == 0 || err->code == ESRCH || err->code == EPERM) {
            return 0;
        }
        return -1;
    }
    if (signal_group(program, sig) < 0 && errno != ESRCH && errno != EPERM) { /* macOS: EPERM for zombies alone, too */
        return pj_fail(err, errno, program->by_handle ? "pidfd_send_signal" : "killpg");
    }
    return 0;
}

void pj_program_unref(pj_program *program) {
    if (--program->refs == 0) {
        if (program->terminal >= 0) {
            close(program->terminal);
        }
        pj_process_close(&program->process);
        free(program);
    }
}
