#define _GNU_SOURCE 1
#include "linux/ward.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux/guard.h"
#include "linux/pidref.h"
#include "posix/spawn.h"

enum { LATE_MS = 1000 }; /* for a guard that is about to tell */

struct pj_launch {
    char *path; /* of the guard's executable */
    pj_wire *wire;
    size_t size, sent;
    int socket, owner; /* the guard's ends */
    int *inherit;      /* ends with -1 */
    bool described;    /* the guard starts the program; else a child of ours becomes both */
};

/* ---- prepare ---- */

static void free_launch(pj_ward *ward) {
    pj_launch *launch = ward->launch;
    ward->launch = NULL;
    if (launch != NULL) {
        if (launch->socket >= 0) {
            close(launch->socket);
        }
        if (launch->owner >= 0) {
            close(launch->owner);
        }
        free(launch->path);
        free(launch->wire);
        free(launch->inherit);
        free(launch);
    }
}

void pj_ward_unref(pj_ward *ward) {
    if (atomic_fetch_sub(&ward->refs, 1) == 1) {
        free_launch(ward);
        if (ward->socket >= 0) {
            close(ward->socket);
        }
        pj_process_close(&ward->guard);
        pj_process_close(&ward->program);
        free(ward);
    }
}

static int make_sockets(pj_ward *ward, pj_error *err) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return pj_fail(err, errno, "socketpair");
    }
    ward->socket = pj_above_standard(pair[0]);
    int code = errno;
    ward->launch->socket = pj_above_standard(pair[1]);
    if (ward->socket < 0 || ward->launch->socket < 0) {
        return pj_fail(err, ward->socket < 0 ? code : errno, "fcntl");
    }
    return 0;
}

/* Opened here, so that it cannot name another. Where there are no pidfds the guard looks at our line in /proc. */
static int open_owner(pj_launch *launch, pj_error *err) {
    int fd = pj_pidfd_open(getpid(), err);
    if (fd == -2) {
        return -1;
    }
    if (fd == -1) {
        fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return pj_fail(err, errno, "open(/proc/self/stat)");
        }
    }
    launch->owner = pj_above_standard(fd);
    return launch->owner < 0 ? pj_fail(err, errno, "fcntl") : 0;
}

static bool is_inheritable(int fd) {
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* The parent's ends of pipes go to no guard; one that would by itself is closed as in any child. */
static int parents_end(int fd) {
    return fd >= 0 && is_inheritable(fd) ? fd : -1;
}

/* Our parent keeps our process group from being an orphaned one (setpgid(2)). */
static bool group_has_parent(void) {
    pid_t parent = getppid();
    return parent > 0 && getsid(parent) == getsid(0) && getpgid(parent) != getpgrp();
}

static int describe(pj_launch *launch, const pj_spec *spec, bool keep, pj_error *err) {
    const int childs[] = {spec->p2cread, spec->c2pwrite, spec->errwrite};
    pj_spec sent = *spec;
    uint32_t flags = (keep ? PJ_WIRE_KEEP : 0) | (group_has_parent() ? PJ_WIRE_IN_SESSION : 0);
    launch->inherit = malloc((spec->pass_count + 6) * sizeof *launch->inherit);
    if (launch->inherit == NULL) {
        return pj_fail(err, errno, "malloc");
    }
    int *to = launch->inherit;
    *to++ = launch->socket;
    *to++ = launch->owner;
    for (int i = 0; i < 3; i++) {
        if (childs[i] >= 0) {
            flags |= is_inheritable(childs[i]) ? 0 : (uint32_t)PJ_WIRE_CLOEXEC << i;
            *to++ = childs[i];
        }
    }
    for (size_t i = 0; i < spec->pass_count; i++) {
        *to++ = spec->pass_fds[i];
    }
    *to = -1;
    sent.p2cwrite = parents_end(spec->p2cwrite);
    sent.c2pread = parents_end(spec->c2pread);
    sent.errread = parents_end(spec->errread);
    sent.envp = spec->envp != NULL ? spec->envp : environ;
    launch->wire = pj_wire_encode(&sent, flags, &launch->size);
    return launch->wire == NULL ? pj_fail(err, errno, errno == E2BIG ? "execve" : "malloc") : 0;
}

/* As much as the guard takes. `flags`: MSG_DONTWAIT, so that it finds the beginning already there. */
static int send_wire(pj_ward *ward, int flags, pj_error *err) {
    pj_launch *launch = ward->launch;
    while (launch->sent < launch->size) {
        size_t left = launch->size - launch->sent;
        size_t chunk = left < PJ_WIRE_CHUNK ? left : PJ_WIRE_CHUNK;
        ssize_t sent = send(ward->socket, (char *)launch->wire + launch->sent, chunk, flags | MSG_NOSIGNAL);
        if (sent >= 0) {
            launch->sent += (size_t)sent;
        } else if (errno == EAGAIN) {
            return 0;
        } else if (errno != EINTR) {
            return pj_fail(err, errno, "send (pyjob-guard)");
        }
    }
    return 0;
}

int pj_ward_prepare(const char *guard, const pj_spec *spec, bool keep, pj_ward **out, pj_error *err) {
    pj_ward *ward = calloc(1, sizeof *ward);
    if (ward == NULL) {
        return pj_fail(err, errno, "calloc");
    }
    atomic_init(&ward->refs, 1);
    pthread_mutex_init(&ward->lock, NULL);
    ward->socket = -1;
    ward->guard.handle = ward->program.handle = -1;
    pj_launch *launch = ward->launch = calloc(1, sizeof *ward->launch);
    if (launch == NULL) {
        pj_fail(err, errno, "calloc");
        goto fail;
    }
    launch->socket = launch->owner = -1;
    launch->path = strdup(guard);
    if (launch->path == NULL) {
        pj_fail(err, errno, "strdup");
        goto fail;
    }
    if (make_sockets(ward, err) < 0 || open_owner(launch, err) < 0 || describe(launch, spec, keep, err) < 0) {
        goto fail;
    }
    *out = ward;
    return 0;
fail:
    pj_ward_unref(ward);
    return -1;
}

/* ---- start, or exec ---- */

typedef struct {
    char owner[21], socket[21], third[21], fourth[21];
    char *argv[7];
} arguments;

static void fill(arguments *a, const pj_launch *launch, char *mode, uint64_t third, uint64_t fourth) {
    pj_format_number((uint64_t)launch->owner, a->owner);
    pj_format_number((uint64_t)launch->socket, a->socket);
    pj_format_number(third, a->third);
    pj_format_number(fourth, a->fourth);
    char *argv[] = {"pyjob-guard", mode, a->owner, a->socket, a->third, a->fourth, NULL};
    memcpy(a->argv, argv, sizeof argv);
}

int pj_ward_start(pj_ward *ward, pj_error *err) {
    arguments a;
    sigset_t mask; /* with which the program shall begin: the guard itself begins with all signals blocked */
    uint64_t bits;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    memcpy(&bits, &mask, sizeof bits);
    fill(&a, ward->launch, "reaper", bits, 0);
    a.argv[5] = NULL;
    if (send_wire(ward, MSG_DONTWAIT, err) < 0) {
        return -1;
    }
    ward->launch->described = true;
    return pj_guard_start(ward->launch->path, a.argv, ward->launch->inherit, &ward->guard, err);
}

/* The guard's side of the fork. All it needs is set before its child exists: an orphan of that one must come to it, and
 * the exit status must not be thrown away. */
static _Noreturn void become_guard(const pj_launch *launch, pid_t child) {
    arguments a;
    char *none[] = {NULL};
    const int own[] = {launch->socket, launch->owner};
    fill(&a, launch, "adopt", (uint64_t)child, launch->wire->flags);
    for (int i = 0; i < 2; i++) {
        fcntl(own[i], F_SETFD, 0);
    }
    execve(launch->path, a.argv, none);
    kill(child, SIGKILL);
    _exit(127);
}

/* In the child, which becomes the program. */
static int begin_program(const pj_launch *launch, pid_t guard) {
    if (launch->wire->flags & PJ_WIRE_KEEP) {
        return 0;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return errno;
    }
    return getppid() == guard ? 0 : ESRCH;
}

int pj_ward_exec(const pj_ward *ward) {
    const pj_launch *launch = ward->launch;
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    struct sigaction before;
    sigset_t all, mask;
    if (access(launch->path, X_OK) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
        return errno;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    sigaction(SIGCHLD, &standard, &before);
    pid_t self = getpid(), child = fork();
    if (child > 0) {
        become_guard(launch, child);
    }
    int code = child < 0 ? errno : begin_program(launch, self);
    sigaction(SIGCHLD, &before, NULL);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return code;
}

/* ---- what the guard says ---- */

static void understand(pj_ward *ward, const pj_message *message) {
    if (message->kind == PJ_EXITED) {
        ward->told = true;
        ward->returncode = message->first;
        ward->empty = ward->empty || message->second != 0;
    } else if (message->kind == PJ_EMPTY) {
        ward->empty = true;
    }
}

static bool guard_is_dead(const pj_ward *ward) {
    struct pollfd ended = {.fd = (int)ward->guard.handle, .events = POLLIN};
    return ward->guard.handle >= 0 && poll(&ended, 1, 0) == 1;
}

static bool program_is_dead(const pj_ward *ward) {
    bool alive;
    pj_error refused;
    return pj_process_alive(&ward->program, &alive, &refused) == 0 && !alive;
}

/* With the lock held. The guard's end of the socket may be held by a forked child of ours, too, so its death is looked
 * for by itself: before the last look at the socket, as it may have said something and then died. */
static void hear(pj_ward *ward) {
    bool dead = guard_is_dead(ward);
    while (!ward->gone) {
        pj_message message;
        ssize_t size = recv(ward->socket, &message, sizeof message, MSG_DONTWAIT);
        if (size == sizeof message) {
            understand(ward, &message);
        } else if (size < 0 && errno == EAGAIN) {
            ward->gone = dead;
            return;
        } else if (size >= 0 || errno != EINTR) {
            ward->gone = true;
        }
    }
}

pj_ward_state pj_ward_look(pj_ward *ward) {
    pthread_mutex_lock(&ward->lock);
    hear(ward);
    if (ward->gone && !ward->empty) {
        ward->lost = true;
        ward->empty = program_is_dead(ward); /* then nobody can tell any more what came of the others */
    }
    pj_ward_state state = ward->empty ? PJ_WARD_EMPTY : ward->gone ? PJ_WARD_LOST : PJ_WARD_LIVE;
    pthread_mutex_unlock(&ward->lock);
    return state;
}

bool pj_ward_lost(pj_ward *ward) {
    (void)pj_ward_look(ward);
    pthread_mutex_lock(&ward->lock);
    bool lost = ward->lost;
    pthread_mutex_unlock(&ward->lock);
    return lost;
}

void pj_ward_say(const pj_ward *ward, int kind) {
    const pj_message message = {.kind = kind};
    send(ward->socket, &message, sizeof message,
         MSG_NOSIGNAL | MSG_DONTWAIT); /* room: we say no more than a few things */
}

int pj_ward_await(const pj_ward *ward, pj_deadline deadline, pj_error *err) {
    struct pollfd both[] = {
        {.fd = ward->socket, .events = POLLIN},
        {.fd = (int)ward->guard.handle, .events = POLLIN},
    };
    for (;;) {
        int ready = poll(both, 2, pj_left_ms(deadline, 60 * 1000));
        if (ready < 0) {
            return pj_fail(err, errno, "poll");
        }
        if (ready > 0 || pj_now() >= deadline) {
            return ready == 0;
        }
    }
}

/* Of a dead program the guard is about to tell, where a parent's wait4(2) would know at once: so it gets the time,
 * unless it is stopped, or a tracer keeps the program from it. */
int pj_ward_collect(pj_ward *ward, pj_deadline deadline, int *returncode, pj_error *err) {
    for (bool late = false;;) {
        pthread_mutex_lock(&ward->lock);
        hear(ward);
        bool told = ward->told, gone = ward->gone;
        if (told && !ward->collected) {
            pj_ward_say(ward, PJ_COLLECTED);
            ward->collected = true;
        }
        pthread_mutex_unlock(&ward->lock);
        if (told) {
            *returncode = ward->returncode;
            return 0;
        }
        if (gone) {
            return pj_fail(err, ECHILD, "recv (pyjob-guard)");
        }
        int waited = pj_ward_await(ward, deadline, err);
        if (waited == 1 && !late && program_is_dead(ward)) {
            late = true;
            deadline = pj_now() + LATE_MS * PJ_MS;
        } else if (waited != 0) {
            return waited;
        }
    }
}

/* ---- finish ---- */

static int receive_reply(pj_ward *ward, pj_message *reply, pj_error *err) {
    for (;;) {
        bool dead = guard_is_dead(ward);
        ssize_t size = recv(ward->socket, reply, sizeof *reply, MSG_DONTWAIT);
        if (size == sizeof *reply) {
            return 0;
        }
        if (size >= 0 || (errno != EAGAIN && errno != EINTR) || dead) {
            return pj_fail(err, size < 0 && errno != EAGAIN ? errno : ESRCH, "recv (pyjob-guard)");
        }
        if (pj_ward_await(ward, PJ_NEVER, err) < 0 && err->code != EINTR) {
            return -1;
        }
    }
}

static const char *refused_call(int call) {
    static const char *const names[] = {"recv (pyjob-guard)", "mmap (pyjob-guard)", "vfork (pyjob-guard)",
                                        "prctl (pyjob-guard)"};
    return call >= 0 && call < (int)(sizeof names / sizeof *names) ? names[call] : "pyjob-guard";
}

/* The guard holds the program as a child, so its PID names no other. The guard itself is pinned already, unless a child
 * of the caller became it: then its PID is its own if it still answers after. */
static int pin(pj_ward *ward, const pj_message *reply, pj_error *err) {
    if (ward->guard.pid == 0) {
        if (pj_process_open(reply->third, &ward->guard, err) < 0) {
            return -1;
        }
        char byte;
        if (recv(ward->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
            return pj_fail(err, ESRCH, "recv (pyjob-guard)");
        }
    }
    return pj_process_pin(reply->first, &ward->program, err);
}

static int take_reply(pj_ward *ward, const pj_message *reply, pj_child *out, pj_error *err) {
    if (reply->kind == PJ_REFUSED) {
        return pj_fail(err, reply->first, refused_call(reply->second));
    }
    if (reply->kind != PJ_STARTED) {
        return pj_fail(err, EPROTO, "recv (pyjob-guard)");
    }
    pj_child child = {.process = {.pid = reply->first, .handle = -1},
                      .path = "guard",
                      .child_errno = reply->second,
                      .stage = reply->second != 0 ? pj_stage_name(reply->third) : ""};
    if (reply->second == 0 && pin(ward, reply, err) < 0) {
        pj_ward_say(ward, PJ_END);
        pj_ward_say(ward, PJ_LEAVE);
        return -1;
    }
    *out = child;
    return 0;
}

int pj_ward_finish(pj_ward *ward, pj_child *out, pj_error *err) {
    pj_message reply = {0};
    close(ward->launch->socket); /* so that the guard's end is only the guard's */
    ward->launch->socket = -1;
    int result = ward->launch->described ? send_wire(ward, 0, err) : 0;
    if (result == 0 || err->code == EPIPE || err->code == ECONNRESET) { /* it may have told why */
        result = receive_reply(ward, &reply, err);
    }
    free_launch(ward);
    return result < 0 ? -1 : take_reply(ward, &reply, out, err);
}
