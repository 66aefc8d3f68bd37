/* The guard of one program's tree: its parent, its subreaper, the keeper of its exit status, and its end when the owner
 * is gone. It leaves when the tree is empty and the exit status was collected, or nobody will collect it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard/guard.h"
#include "linux/procfs.h"
#include "linux/tree.h"

enum { OWNER_LOOK = 100, FIRST_PAUSE = 10, LONGEST_PAUSE = 1000 }; /* milliseconds */

typedef struct {
    int socket, owner, signals; /* -1: gone */
    bool owner_is_proc;
    bool keep;     /* the owner's death ends nobody */
    bool unwanted; /* nobody will collect the exit status */
    bool ending;   /* the tree is to end */
    pid_t program; /* 0: collected */
    bool told;     /* its exit status, to the owner */
    bool empty;    /* nobody is left but its zombie */
    int pause;     /* between two attempts to end the tree */
} guard;

/* ---- what was started and has ended ---- */

static void tell(const guard *g, int kind, int first, int second) {
    if (g->socket >= 0) {
        pj_tell_owner(g->socket, kind, first, second, 0);
    }
}

static bool reap(pid_t pid) {
    siginfo_t end = {0};
    return waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG) == 0 && end.si_pid == pid;
}

/* What one pass over our children found, but for one that is kept. */
typedef struct {
    pid_t but;
    int living, reaped;
} counted;

static int reap_or_count(pid_t pid, void *arg) {
    counted *count = arg;
    if (pid != count->but) {
        bool gone = reap(pid);
        count->reaped += gone;
        count->living += !gone;
    }
    return 0;
}

/* proc_tid_children(5). false: there is no such file. */
static bool reap_listed(counted *count) {
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    int result = pj_read_ids(fd, reap_or_count, count);
    close(fd);
    return result == 0;
}

static bool reap_scanned(counted *count) {
    pj_table table = {0};
    pj_error err;
    if (pj_procfs_scan(&table, &err) < 0) {
        return false;
    }
    count->living += table.moving; /* somebody may have been missed */
    for (size_t i = 0; i < table.count; i++) {
        const pj_stat *one = &table.items[i];
        if (one->parent == getpid()) {
            reap_or_count((pid_t)one->pid, count);
        }
    }
    pj_table_free(&table);
    return true;
}

/* While the program's own zombie is kept it is the first that waitid(P_ALL) finds, and hides the others. Only a pass
 * that found nobody tells that there is nobody: the children of one that was reaped in it may have come behind it, and
 * what is reaped moves those behind it up, past the place where the kernel goes on to read. */
static void reap_others(guard *g) {
    counted pass;
    do {
        pass = (counted){.but = g->program};
        if (!reap_listed(&pass)) {
            pass = (counted){.but = g->program};
            if (!reap_scanned(&pass)) {
                return;
            }
        }
    } while (pass.reaped > 0);
    g->empty = g->empty || pass.living == 0; /* an orphan would be our child, and the dead adopt nobody */
}

static void hold_program(guard *g, const siginfo_t *end) {
    bool was_empty = g->empty;
    reap_others(g);
    if (!g->told) {
        tell(g, PJ_EXITED, end->si_code == CLD_EXITED ? end->si_status : -end->si_status, g->empty);
        g->told = true;
    } else if (g->empty && !was_empty) {
        tell(g, PJ_EMPTY, 0, 0);
    }
}

/* false: there is no child left, and so no descendant. */
static bool reap_all(guard *g) {
    for (;;) {
        siginfo_t end = {0};
        if (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno != ECHILD;
        }
        if (end.si_pid == 0) {
            return true;
        }
        if (end.si_pid == g->program) {
            hold_program(g, &end);
            if (!g->unwanted) {
                return true;
            }
            g->program = 0;
        }
        reap(end.si_pid);
    }
}

/* ---- what the owner says, and its end ---- */

static void obey(guard *g, int kind) {
    if (kind == PJ_COLLECTED && g->told && g->program != 0) {
        reap(g->program);
        g->program = 0;
    } else if (kind == PJ_RELEASE) {
        g->keep = true;
    } else if (kind == PJ_LEAVE) {
        g->unwanted = true;
    } else if (kind == PJ_END) {
        g->ending = true;
    }
}

/* An owner that has closed its end without reading ours makes us one ECONNRESET, before what it had sent (unix(7)). */
static bool try_again(ssize_t size) {
    return size < 0 && (errno == EINTR || errno == ECONNRESET);
}

static void hear(guard *g) {
    pj_message message;
    ssize_t size;
    while ((size = recv(g->socket, &message, sizeof message, MSG_DONTWAIT)) > 0 || try_again(size)) {
        if (size == sizeof message) {
            obey(g, message.kind);
        }
    }
    if (size == 0 || errno != EAGAIN) {
        close(g->socket);
        g->socket = -1;
        g->unwanted = true;
    }
}

static void look_at_owner(guard *g) {
    if (g->owner >= 0 && pj_owner_dead(g->owner, g->owner_is_proc)) {
        close(g->owner);
        g->owner = -1;
        g->unwanted = true;
        g->ending = g->ending || !g->keep;
    }
}

/* ---- ending the tree ---- */

static int end_child(pid_t pid, void *unused) {
    (void)unused;
    kill(pid, SIGKILL); /* a child that we have not reaped: the PID is its own */
    return 0;
}

/* Those whom hidepid hides from every scan become our children when all others are dead (proc_tid_children(5)). */
static void end_children(const guard *g) {
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)pj_read_ids(fd, end_child, NULL);
        close(fd);
    } else if (g->program != 0) {
        kill(g->program, SIGKILL);
    }
}

/* One attempt. */
static void end_tree(guard *g) {
    pj_process self;
    const pj_forest tree = {.roots = &self, .root_count = 1};
    pj_pids survivors = {0};
    pj_error err;
    if (pj_process_open(getpid(), &self, &err) == 0) {
        (void)pj_forest_kill(&tree, 0, NULL, &survivors, &err);
        pj_process_close(&self);
        pj_pids_free(&survivors);
    }
    end_children(g);
}

static int open_signals(void) {
    sigset_t child = {0};
    *(uint64_t *)(void *)&child = (uint64_t)1 << (SIGCHLD - 1);
    return signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int longest_sleep(const guard *g) {
    if (g->ending && !g->empty) {
        return g->pause;
    }
    if (g->signals < 0) { /* ENOMEM: then a child's end is seen by looking */
        return OWNER_LOOK;
    }
    return g->owner >= 0 && g->owner_is_proc ? OWNER_LOOK : -1;
}

static void sleep_until_something(guard *g) {
    if (g->signals < 0) {
        g->signals = open_signals();
    }
    struct pollfd wakers[] = {
        {.fd = g->signals, .events = POLLIN},
        {.fd = g->socket, .events = POLLIN},
        {.fd = g->owner_is_proc ? -1 : g->owner, .events = POLLIN},
    };
    if (poll(wakers, sizeof wakers / sizeof *wakers, longest_sleep(g)) < 0) {
        pj_sleep(FIRST_PAUSE * PJ_MS); /* ENOMEM; and then everything is looked at */
    }
    struct signalfd_siginfo signals[8];
    if (wakers[0].revents != 0) {
        read(g->signals, signals, sizeof signals);
    }
    if (wakers[1].revents != 0) {
        hear(g);
    }
    look_at_owner(g);
}

static void keep_watch(guard *g) {
    int64_t next = 0;
    while (reap_all(g)) {
        if (g->ending && !g->empty && pj_now() >= next) {
            end_tree(g);
            next = pj_now() + g->pause * PJ_MS;
            g->pause = g->pause < LONGEST_PAUSE / 2 ? g->pause * 2 : LONGEST_PAUSE;
            if (!reap_all(g)) {
                return;
            }
        }
        sleep_until_something(g);
    }
}

/* ---- the beginning ---- */

/* -1: the owner is gone, or talks nonsense. */
static ssize_t receive(const guard *g, void *to, size_t size, int flags) {
    for (;;) {
        ssize_t got = recv(g->socket, to, size, flags | MSG_DONTWAIT);
        if (got >= 0 || errno != EAGAIN) {
            return got;
        }
        if (pj_owner_dead(g->owner, g->owner_is_proc)) {
            return -1;
        }
        struct pollfd wakers[] = {
            {.fd = g->socket, .events = POLLIN},
            {.fd = g->owner_is_proc ? -1 : g->owner, .events = POLLIN},
        };
        poll(wakers, sizeof wakers / sizeof *wakers, g->owner_is_proc ? OWNER_LOOK : -1);
    }
}

/* The whole description, in pages of its own, or NULL. */
static pj_wire *receive_wire(const guard *g, size_t *size) {
    pj_wire head;
    if (receive(g, &head, sizeof head, MSG_PEEK) != sizeof head || head.magic != PJ_WIRE_MAGIC) {
        return NULL;
    }
    char *wire = malloc(head.size);
    size_t have = 0;
    while (wire != NULL && have < head.size) {
        ssize_t got = receive(g, wire + have, head.size - have, 0);
        if (got <= 0) {
            free(wire);
            return NULL;
        }
        have += (size_t)got;
    }
    *size = have;
    return (pj_wire *)wire;
}

/* Out of the reach of killpg() and of the terminal, and out of job control's sight: a process group is orphaned, and
 * can then not be stopped from the terminal, when no member has a parent in another group of its session (setpgid(2)).
 * That shall be as without a guard. Where the caller's group is not orphaned, or the program leads a group of its own,
 * we stay in the session: the program is then stopped as the caller's child would be, whatever group it makes. Else we
 * leave, so that our being the program's parent saves no group from being orphaned. */
static void step_aside(bool in_session) {
    if (in_session) {
        setpgid(0, 0);
    } else {
        setsid();
    }
    (void)!chdir("/");
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max; /* the program has its own; we must be able to read /proc */
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int guard_it(guard *g, uint32_t flags) {
    g->keep = flags & PJ_WIRE_KEEP;
    step_aside(flags & PJ_WIRE_IN_SESSION);
    g->signals = open_signals();
    keep_watch(g);
    tell(g, PJ_EMPTY, 0, 0); /* so that our going is not taken for a violent death */
    return 0;
}

int pj_guard_tree(int socket, int owner, uint64_t mask) {
    guard g = {.socket = socket, .owner = owner, .owner_is_proc = pj_owner_is_proc(owner), .pause = FIRST_PAUSE};
    const int own[] = {socket, owner, -1};
    size_t size;
    pj_wire *wire = receive_wire(&g, &size);
    if (wire == NULL) {
        return 1;
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        tell(&g, PJ_REFUSED, errno, PJ_CALL_SUBREAPER);
        return 1;
    }
    if (pj_start_program(wire, size, own, mask, socket, &g.program) < 0) {
        return 1;
    }
    uint32_t flags = wire->flags;
    free(wire);
    return guard_it(&g, flags);
}

int pj_guard_child(int socket, int owner, pid_t child, uint32_t flags) {
    guard g = {.socket = socket,
               .owner = owner,
               .owner_is_proc = pj_owner_is_proc(owner),
               .program = child,
               .pause = FIRST_PAUSE};
    const int own[] = {socket, owner};
    siginfo_t end;
    pj_close_others(own, sizeof own / sizeof *own);
    if (waitid(P_PID, (id_t)child, &end, WEXITED | WNOHANG | WNOWAIT) < 0) {
        return 1;
    }
    pj_tell_owner(socket, PJ_STARTED, child, 0, getpid());
    return guard_it(&g, flags);
}
