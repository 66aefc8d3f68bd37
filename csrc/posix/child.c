/* The child's side of pj_spawn(), from its first instruction to execve(2).
 *
 * THE CONTRACT OF THIS FILE. The child runs in the memory of a suspended parent whose other threads go on, and it may
 * have been started while any of them held any lock. So, until execve(2) or _exit(2):
 *  - only async-signal-safe functions (signal-safety(7)), which take no lock and allocate nothing; whatever needs
 * memory was made ready by the parent. The guard links this file without a C library: each name used here is a bare
 * system call there, or mem*.
 *  - nothing of the parent's memory is written but *verdict, errno and the stack below the parent's frame;
 *  - no function of the C library that keeps a thread's identity or credentials in step with other threads (setuid(),
 *    setgroups()): start.h has the bare calls;
 *  - signals come in blocked. A handler of the parent must never run here, so each becomes SIG_DFL before the caller's
 * mask is restored, as posix_spawn(3) does it; what is ignored stays ignored;
 *  - descriptors are this process's own (no CLONE_FILES), and so are directory, umask and signal actions.
 *
 * The order of the steps is that of child_exec() in CPython's _posixsubprocess.c: programs depend on it. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "posix/spawn.h"
#include "posix/start.h"

enum { EXIT_FAILED = 255 }; /* nobody sees it: the parent reaps the child and reads the verdict */

/* Passes a result on; a failure's place goes into the verdict. */
static int at(pj_verdict *verdict, int stage, int result) {
    if (result < 0) {
        verdict->stage = stage;
    }
    return result;
}

/* cgroups(7): "0" moves the writing process. Before all else, while we still have the caller's rights. */
static int enter_cgroup(int cgroup_fd) {
    if (cgroup_fd < 0) {
        return 0;
    }
    int procs = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (procs < 0) {
        return -1;
    }
    ssize_t written = write(procs, "0", 1);
    int code = errno;
    close(procs);
    errno = code;
    return written == 1 ? 0 : -1;
}

static int close_parents_ends(const pj_spec *spec, const pj_place *place) {
    const int ends[] = {spec->p2cwrite, spec->c2pread, spec->errread};
    for (const int *fd = place->closed; fd != NULL && *fd >= 0; fd++) {
        close(*fd);
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends[i] >= 0 && close(ends[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int keep_passed(const pj_spec *spec) {
    for (size_t i = 0; i < spec->pass_count; i++) {
        if (fcntl(spec->pass_fds[i], F_SETFD, 0) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Out of the way of the standard descriptors that are filled before this one is used. */
static int raise_above(int *fd, int highest) {
    if (*fd < 0 || *fd > highest) {
        return 0;
    }
    *fd = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return *fd < 0 ? -1 : 0;
}

static int place_at(int fd, int target) {
    if (fd == -1) { /* any other negative one is refused below, as dup2(2) does */
        return 0;
    }
    return fd == target ? fcntl(fd, F_SETFD, 0) : dup2(fd, target);
}

static int set_standard_streams(const pj_spec *spec) {
    int out = spec->c2pwrite, error = spec->errwrite;
    if (raise_above(&out, STDIN_FILENO) < 0 || raise_above(&error, STDOUT_FILENO) < 0) {
        return -1;
    }
    if (place_at(spec->p2cread, STDIN_FILENO) < 0 || place_at(out, STDOUT_FILENO) < 0) {
        return -1;
    }
    return place_at(error, STDERR_FILENO) < 0 ? -1 : 0;
}

static void reset_signals(const pj_spec *spec, const pj_place *place) {
    /* CPython has SIGXFZ, too, which no system has any more. */
    static const int pythons[] = {SIGPIPE, SIGXFSZ};
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < pj_signal_end && !place->no_handlers; sig++) {
        struct sigaction now;
        if (sigaction(sig, NULL, &now) == 0 && now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN) {
            sigaction(sig, &standard, NULL);
        }
    }
    for (size_t i = 0; spec->restore_signals && i < sizeof pythons / sizeof *pythons; i++) {
        sigaction(pythons[i], &standard, NULL);
    }
}

static int set_group(const pj_spec *spec, const pj_place *place, pj_verdict *verdict) {
    if (spec->start_new_session && at(verdict, PJ_STAGE_SETSID, setsid()) < 0) {
        return -1;
    }
    if (spec->process_group >= 0) {
        return at(verdict, PJ_STAGE_SETPGID, setpgid(0, spec->process_group));
    }
    if (!place->new_group || spec->start_new_session) {
        return 0;
    }
    if (at(verdict, PJ_STAGE_SETPGID, setpgid(0, 0)) < 0) {
        return -1;
    }
    if (place->terminal >= 0) {
        tcsetpgrp(place->terminal,
                  getpid()); /* SIGTTOU is blocked. A terminal that hung up is none of the start's errors */
    }
    return 0;
}

static int set_identity(const pj_spec *spec, pj_verdict *verdict) {
    if (spec->set_groups && at(verdict, PJ_STAGE_SETGROUPS, pj_child_setgroups(spec->group_count, spec->groups)) < 0) {
        return -1;
    }
    if (spec->set_gid && at(verdict, PJ_STAGE_SETGID, pj_child_setgid(spec->gid)) < 0) {
        return -1;
    }
    return spec->set_uid ? at(verdict, PJ_STAGE_SETUID, pj_child_setuid(spec->uid)) : 0;
}

/* What comes after the working directory; the last of it can be interrupted by a signal that was waiting. */
static int finish(const pj_spec *spec, const pj_place *place, const sigset_t *mask, pj_verdict *verdict) {
    if (spec->umask >= 0) {
        umask((mode_t)spec->umask);
    }
    reset_signals(spec, place);
    if (set_group(spec, place, verdict) < 0 || set_identity(spec, verdict) < 0) {
        return -1;
    }
    /* after the identity: a change of it clears the setting (PR_SET_PDEATHSIG(2const)) */
    if (place->parent_death != 0 &&
        at(verdict, PJ_STAGE_PARENT_DEATH, pj_child_parent_death(place->parent_death, verdict->parent)) < 0) {
        return -1;
    }
    if (spec->close_fds) {
        pj_child_close(STDERR_FILENO + 1, spec->pass_fds, spec->pass_count);
    }
    int code = pthread_sigmask(SIG_SETMASK, mask, NULL);
    errno = code;
    return code == 0 ? 0 : -1;
}

/* As execvp(3) and CPython: the first error that is not "not there" is the one to tell. */
static int execute(const pj_spec *spec) {
    int first = 0;
    for (char *const *path = spec->executables; *path != NULL; path++) {
        if (spec->envp != NULL) {
            execve(*path, spec->argv, spec->envp);
        } else {
            execv(*path, spec->argv);
        }
        if (errno != ENOENT && errno != ENOTDIR && first == 0) {
            first = errno;
        }
    }
    return first != 0 ? first : errno;
}

void pj_child_exec(const pj_spec *spec, const pj_place *place, const sigset_t *mask, pj_verdict *verdict) {
    verdict->started = 1;
    errno = 0;
    if (at(verdict, PJ_STAGE_CGROUP, enter_cgroup(place->cgroup_fd)) < 0 ||
        at(verdict, PJ_STAGE_FCNTL, keep_passed(spec)) < 0 ||
        at(verdict, PJ_STAGE_CLOSE, close_parents_ends(spec, place)) < 0 ||
        at(verdict, PJ_STAGE_DUP2, set_standard_streams(spec)) < 0 ||
        (spec->cwd != NULL && at(verdict, PJ_STAGE_CHDIR, chdir(spec->cwd)) < 0) ||
        finish(spec, place, mask, verdict) < 0) {
        goto failed;
    }
    verdict->stage = PJ_STAGE_EXEC;
    errno = execute(spec);
failed:
    verdict->code = errno != 0 ? errno : EINVAL;
    _exit(EXIT_FAILED);
}
