#include "linux/hunt.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/pidref.h"
#include "linux/tracer.h"
#include "linux/view.h"

enum {
    QUIET = 2,      /* passes in a row without news after which nobody runs: a SIGSTOP does not undo a fork under way */
    QUIET_BUSY = 8, /* the same where strangers come and go so fast that each look may have missed somebody */
    FEWEST = 3,     /* passes when there is no time: one to find, two to be sure */
    DEEP = 8,       /* passes for one who sleeps too deep to be stopped: in a fork(2) soon over, or a vfork(2) never */
    MOST = 100,     /* passes until we kill whom we hold, though others still appear (an unstoppable parent forks on) */
    TICK_MS = 20,   /* longer than a clock tick of /proc's start times */
    OPEN_FILES = 7, /* RLIMIT_NOFILE: <sys/resource.h> differs between libcs, the kernel's number does not */
};

typedef struct {
    pj_view view;
    pj_hold hold;
    pj_pids tracers;        /* of us, at the last look */
    size_t pins, most_pins; /* pidfds that we keep, and how many at most: the process has other uses for descriptors */
    int64_t last_pin;
    pj_caller *caller; /* or NULL */
    pj_pids *killed;   /* or NULL */
    bool lost; /* perhaps: somebody was killed while others ran, and whom they forked meanwhile has no parents now */
} hunt;

static size_t pin_limit(void) {
    uint64_t limit[2] = {0, 0};
    if (syscall(SYS_prlimit64, 0, OPEN_FILES, (void *)0, limit) < 0) {
        return 128;
    }
    return limit[0] < 32 ? 16 : limit[0] > 4096 ? 2048 : (size_t)limit[0] / 2;
}

/* Closes all our pidfds. Whom we hold is known by PID and start time from here on, and exactly: each was alive, and
 * pinned, a whole tick after it started, so whoever has its PID later started in another tick. */
static int unpin_all(hunt *h, pj_error *err) {
    for (int64_t ripe = h->last_pin + TICK_MS * PJ_MS, now; (now = pj_now()) < ripe;) {
        pj_sleep(ripe - now);
    }
    for (size_t at = 0; at < h->hold.count; at++) {
        pj_held *held = &h->hold.items[at];
        bool alive = true;
        if (held->process.handle >= 0 && pj_process_alive(&held->process, &alive, err) < 0) {
            return -1;
        }
        held->ended = held->ended || !alive;
        pj_process_close(&held->process);
    }
    h->pins = 0;
    return 0;
}

/* After a failure: whether it was for want of descriptors, and we gave up ours, so that the step can be tried again. */
static bool relieve(hunt *h, pj_error *err) {
    if ((err->code != EMFILE && err->code != ENFILE) || h->pins == 0) {
        return false;
    }
    h->most_pins = h->pins / 2 + 1; /* leave some for /proc */
    return unpin_all(h, err) == 0;
}

static int prove(const hunt *h, const pj_process *process, pj_error *err) {
    pj_stat stat;
    bool alive;
    if (pj_procfs_stat_at(h->view.proc, process->pid, &stat, err) < 0 || pj_process_alive(process, &alive, err) < 0) {
        return -1;
    }
    return alive && stat.start == process->created ? 0 : pj_fail(err, ESRCH, "pidfd_open");
}

/* A handle for one act on somebody we hold: ours, or a new one that is proved by the start time. ESRCH: it ended. It
 * takes no more descriptors than stop_one() does, so that whoever could be stopped can be continued. */
static int grip(hunt *h, const pj_held *held, pj_process *out, pj_error *err) {
    pj_process process = held->process;
    while (process.handle < 0) {
        process.handle = pj_pidfd_open(process.pid, err);
        if (process.handle != -2 && prove(h, &process, err) == 0) {
            break;
        }
        pj_process_close(&process);
        process.handle = -1;
        if (!relieve(h, err)) {
            return -1;
        }
    }
    *out = process;
    return 0;
}

static void ungrip(const pj_held *held, pj_process *process) {
    if (held->process.handle < 0) {
        pj_process_close(process);
    }
}

/* *sent: it got the signal; else it has ended, or may not be signalled. */
static int signal_held(hunt *h, pj_held *held, int sig, bool *sent, pj_error *err) {
    pj_process process;
    *sent = false;
    if (grip(h, held, &process, err) < 0) {
        held->ended = err->code == ESRCH;
        return held->ended ? 0 : -1;
    }
    int status = pj_process_signal(&process, sig, err);
    *sent = status == 0;
    ungrip(held, &process);
    if (status < 0 && err->code == ESRCH) {
        held->ended = true;
    }
    return status == 0 || held->ended || err->code == EPERM ? 0 : -1;
}

static int note(pj_pids *list, pj_pid pid, pj_error *err) {
    return !list || pj_pids_add(list, pid) ? 0 : pj_fail(err, ENOMEM, "realloc");
}

static int kill_held(hunt *h, pj_held *held, bool *sent, pj_error *err) {
    if (signal_held(h, held, SIGKILL, sent, err) < 0) {
        return -1;
    }
    held->killed = *sent;
    return *sent ? note(h->killed, held->process.pid, err) : 0;
}

typedef enum { FAILED = -1, HELD, LOST, REFUSED } outcome;

/* Whoever traces us is not stopped, but killed at once, at the end of the pass. */
static int stop_signal(const hunt *h, pj_pid pid) {
    return pj_pids_has(&h->tracers, pid) ? 0 : SIGSTOP;
}

static outcome stop_pinned(hunt *h, const pj_process *process, pj_error *err) {
    bool member;
    pj_stat now;
    if (pj_view_verify(&h->view, process, &member, &now, err) < 0) {
        return FAILED;
    }
    if (!member) {
        return LOST;
    }
    if (now.kernel) {
        return REFUSED;
    }
    bool refused = false;
    int sig = stop_signal(h, process->pid);
    if (pj_process_signal(process, sig, err) < 0) {
        if (err->code != EPERM) {
            return err->code == ESRCH ? LOST : FAILED;
        }
        refused = true; /* held all the same: it is a survivor, and a parent of members, when its own parent is dead */
    }
    bool stopped = !refused && sig == SIGSTOP && now.state != 'T' && now.state != 't';
    pj_held held = {.process = *process, .refused = refused, .stopped = stopped};
    if (pj_hold_add(&h->hold, &held)) {
        return HELD;
    }
    if (held.stopped) {
        pj_process_signal(process, SIGCONT, err);
    }
    pj_fail(err, ENOMEM, "realloc");
    return FAILED;
}

/* Pins, verifies, stops: in this order, so that it is a member that stops, and no other. */
static outcome try_stop(hunt *h, pj_pid pid, uint64_t start, pj_error *err) {
    pj_process process = {.pid = pid, .handle = pj_pidfd_open(pid, err), .created = start};
    if (process.handle == -2) {
        return err->code == ESRCH ? LOST : FAILED;
    }
    outcome result = stop_pinned(h, &process, err);
    if (result != HELD) {
        pj_process_close(&process);
    } else if (process.handle >= 0) {
        h->pins++;
        h->last_pin = pj_now();
    }
    return result;
}

static outcome stop_one(hunt *h, pj_pid pid, uint64_t start, pj_error *err) {
    if (h->pins >= h->most_pins && unpin_all(h, err) < 0) {
        return FAILED;
    }
    outcome result;
    do {
        result = try_stop(h, pid, start, err);
    } while (result == FAILED && relieve(h, err));
    return result;
}

static bool runs(const pj_stat *stat) {
    return stat->state == 'R' || stat->state == 'S';
}

/* Somebody we hold, seen again. A waker or a late stop: it gets another SIGSTOP, and no pass is quiet before it stands.
 */
static int see_held(hunt *h, pj_held *held, const pj_stat *line, bool *quiet, pj_error *err) {
    bool sent;
    if (held->killed || held->refused) {
        return 0;
    }
    if (line->state == 'D' && held->deep < DEEP) {
        held->deep++;
        *quiet = false;
    }
    if (!runs(line)) {
        return 0;
    }
    *quiet = false;
    return signal_held(h, held, stop_signal(h, line->pid), &sent, err);
}

/* Last in a pass: whom they had started by then is held, and does not get lost with them. */
static int kill_tracers(hunt *h, pj_error *err) {
    for (size_t at = 0; at < h->tracers.count; at++) {
        pj_held *held = pj_hold_find(&h->hold, h->tracers.items[at]);
        bool sent;
        if (held && !held->killed && !held->ended && kill_held(h, held, &sent, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* One look, and a stop for each member that is new. *living: members seen, whether or not we could stop them. *news:
 * not quiet for more than those whom we hold. */
static int pass(hunt *h, bool *quiet, bool *news, size_t *living, pj_error *err) {
    while (pj_view_look(&h->view, err) < 0 || pj_find_tracers(h->view.proc, &h->tracers, err) < 0) {
        if (!relieve(h, err)) {
            return -1;
        }
    }
    if (h->view.forest->show) {
        h->view.forest->show(h->view.forest->arg, &h->view.table);
    }
    *quiet = true;
    *news = false;
    *living = 0;
    pj_pid self = getpid();
    for (size_t at = 0; at < h->view.count; at++) {
        const pj_stat *line = pj_view_member(&h->view, at);
        if (!line || line->pid == self) {
            continue;
        }
        ++*living;
        pj_held *held = pj_hold_find(&h->hold, line->pid);
        if (held && held->process.created == line->start) {
            if (see_held(h, held, line, quiet, err) < 0) {
                return -1;
            }
            continue;
        }
        outcome result = stop_one(h, line->pid, line->start, err);
        if (result == FAILED) {
            return -1;
        }
        *news = *news || result != REFUSED;
    }
    *quiet = *quiet && !*news;
    return kill_tracers(h, err);
}

/* Stops all members. *stood: nobody ran any more. *empty: there were none, by as many looks in a row as it takes to be
 * sure. */
static int stop_all(hunt *h, pj_deadline deadline, bool *stood, bool *empty, pj_error *err) {
    int quiet = 0, sure = 0;
    size_t living = 0;
    for (int passes = 0; sure < QUIET && quiet < QUIET_BUSY && passes < MOST; passes++) {
        bool still, news;
        if (passes >= FEWEST && pj_now() >= deadline) {
            break;
        }
        if (pass(h, &still, &news, &living, err) < 0) {
            return -1;
        }
        if (!still && !news) { /* a busy machine: a SIGSTOP waits until its receiver gets a processor */
            pj_sleep(pj_earlier(passes / 10 * PJ_MS, deadline - pj_now()));
        }
        quiet = still ? quiet + 1 : 0;
        sure = !still ? 0 : h->view.table.moving ? sure : sure + 1;
    }
    *stood = sure >= QUIET || quiet >= QUIET_BUSY;
    *empty = quiet >= QUIET && living == 0 && h->hold.count == 0;
    return 0;
}

/* Since the look that saw them all stand still: somebody woke this one, or it is on its way from a vfork(2), whose
 * child was just killed, to the stop that waits for it. Whom it forks has no parent after its death. */
static bool woke(const hunt *h, const pj_held *held) {
    pj_stat now;
    pj_error unused;
    return !held->refused && pj_procfs_stat_at(h->view.proc, held->process.pid, &now, &unused) == 0 && runs(&now) &&
           now.start == held->process.created && stop_signal(h, now.pid) == SIGSTOP;
}

typedef struct {
    bool stood, patient; /* before: nobody ran any more; whoever woke may be stopped once more */
    bool progress, woke; /* after: somebody got his SIGKILL now; somebody ran, and was let be with all before him */
} killing;

/* Children first: the death of a parent orphans process groups, and the kernel wakes the stopped ones in those; they
 * must have their SIGKILL by then. */
static int kill_all(hunt *h, killing *k, pj_error *err) {
    bool lossy = h->view.forest->lossy, sent;
    for (size_t at = h->hold.count; at-- > 0;) {
        pj_held *held = &h->hold.items[at];
        if (held->killed || held->ended) {
            continue;
        }
        bool running = lossy && (!k->stood || woke(h, held));
        if (running && k->stood && k->patient) {
            k->woke = true;
            return 0;
        }
        if (kill_held(h, held, &sent, err) < 0) {
            return -1;
        }
        h->lost = h->lost || (running && sent);
        k->progress = k->progress || sent;
    }
    return 0;
}

/* Only when all whom we hold have their SIGKILL, or may not get it: what is asked may take its time, or end us. */
static int ask_caller(const hunt *h, pj_error *err) {
    return !h->caller || h->caller->go_on(h->caller) ? 0 : pj_fail(err, EINTR, "poll");
}

static int await_one(hunt *h, pj_held *held, pj_deadline deadline, pj_error *err) {
    pj_process process;
    if (grip(h, held, &process, err) < 0) {
        held->ended = err->code == ESRCH;
        return held->ended ? 0 : -1;
    }
    int status;
    for (bool more = true; more;) {
        pj_deadline slice = pj_earlier(deadline, pj_now() + PJ_SLICE);
        status = pj_process_await(&process, slice, err);
        more = status == 1 ? slice < deadline : status < 0 && err->code == EINTR;
        if (more) {
            status = ask_caller(h, err);
            more = status == 0;
        }
    }
    held->ended = status == 0;
    ungrip(held, &process);
    return status < 0 ? -1 : 0;
}

/* For the deaths of those who got their SIGKILL; the dead are let go. */
static int await_all(hunt *h, pj_deadline deadline, pj_error *err) {
    for (size_t at = 0; at < h->hold.count; at++) {
        pj_held *held = &h->hold.items[at];
        if (held->killed && !held->ended && await_one(h, held, deadline, err) < 0) {
            return -1;
        }
    }
    pj_hold_sweep(&h->hold);
    h->pins = 0;
    for (size_t at = 0; at < h->hold.count; at++) {
        h->pins += h->hold.items[at].process.handle >= 0;
    }
    return 0;
}

static int find_survivors(hunt *h, pj_pids *out, pj_error *err) {
    pj_pid self = getpid();
    for (int looks = 0; looks < FEWEST && out->count == 0; looks++) {
        if (pj_view_look(&h->view, err) < 0) {
            return -1;
        }
        for (size_t at = 0; at < h->view.count; at++) {
            const pj_stat *line = pj_view_member(&h->view, at);
            if (line && line->pid != self && note(out, line->pid, err) < 0) {
                return -1;
            }
        }
    }
    for (size_t at = 0; at < h->hold.count; at++) { /* members, though their root may have died */
        bool alive;
        const pj_process *process = &h->hold.items[at].process;
        if (pj_process_alive(process, &alive, err) < 0 || (alive && note(out, process->pid, err) < 0)) {
            return -1;
        }
    }
    pj_pids_sort(out);
    return 0;
}

/* A tree of which we may end nobody, its root included: no matter of time. */
static bool is_forbidden(const hunt *h) {
    const pj_forest *forest = h->view.forest;
    if (!forest->lossy || !forest->with_roots || (h->killed && h->killed->count > 0)) {
        return false;
    }
    const pj_held *root = pj_hold_find(&h->hold, forest->roots[0].pid);
    return root && root->refused && !root->ended;
}

static int hunt_down(hunt *h, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    int wakes = 0;
    for (int64_t pause = PJ_MS;;) {
        killing k = {0};
        bool empty;
        if (stop_all(h, deadline, &k.stood, &empty, err) < 0) {
            return -1;
        }
        if (empty) {
            return h->lost;
        }
        k.patient = wakes < (pj_now() < deadline ? MOST : FEWEST);
        if (kill_all(h, &k, err) < 0) {
            return -1;
        }
        if (k.woke) {
            wakes++;
            continue;
        }
        if (is_forbidden(h)) {
            return pj_fail(err, EPERM, pj_signal_call(&h->view.forest->roots[0]));
        }
        if (await_all(h, deadline, err) < 0 || ask_caller(h, err) < 0) {
            return -1;
        }
        int64_t now = pj_now();
        if (now >= deadline) {
            return find_survivors(h, survivors, err) < 0 ? -1 : survivors->count > 0 || h->lost;
        }
        if (k.progress) {
            pause = PJ_MS;
            continue;
        }
        pj_sleep(pj_earlier(pause,
                            deadline - now)); /* only such as may not be signalled: they may end of their own accord */
        pause = pause < 32 * PJ_MS ? 2 * pause : pause;
    }
}

/* Whoever ran before, and was not killed in the end, runs again. */
static void let_run(hunt *h) {
    pj_error unused;
    for (size_t at = 0; at < h->hold.count; at++) {
        pj_held *held = &h->hold.items[at];
        bool sent;
        if (held->stopped && !held->killed && !held->ended) {
            signal_held(h, held, SIGCONT, &sent, &unused);
        }
    }
}

int pj_hunt(const pj_forest *forest, pj_deadline deadline, pj_caller *caller, pj_pids *killed, pj_pids *survivors,
            pj_error *err) {
    hunt h = {.most_pins = pin_limit(), .caller = caller, .killed = killed};
    pj_pids left = {0};
    int status = pj_view_open(&h.view, forest, &h.hold, err);
    if (status == 0) {
        status = hunt_down(&h, deadline, &left, err);
    }
    let_run(&h);
    if (status < 0) {
        pj_pids_free(&left);
    } else {
        pj_pids_free(survivors);
        *survivors = left;
    }
    pj_pids_free(&h.tracers);
    pj_hold_free(&h.hold);
    pj_view_close(&h.view);
    return status;
}
