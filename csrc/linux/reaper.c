#define _GNU_SOURCE 1
#include "linux/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "linux/guard.h"
#include "linux/pidref.h"
#include "linux/procfs.h"
#include "linux/reaper_job.h"
#include "linux/view.h"

enum { LOOK_MS = 20 }; /* between two looks at what nobody tells us of */

/* ---- a job and its programs ---- */

static int create(const pj_create *how, pj_job **out, pj_error *err) {
    pj_reaper_job *own;
    if (how->name != NULL) {
        return pj_unsupported(err, "the jobs of the reaper backend have no names");
    }
    if (access(how->guard, X_OK) < 0) {
        return pj_fail(err, errno, "access (pyjob-guard)");
    }
    if (how->parent == NULL) { /* the members are found in it: without it there would be a job that cannot even end */
        int proc = pj_procfs_open(err);
        if (proc < 0) {
            return -1;
        }
        close(proc);
    }
    if (pj_reaper_new(how, &pj_reaper_backend, &own, err) < 0) {
        return -1;
    }
    *out = &own->head;
    return 0;
}

static int prepare(pj_job *job, const pj_spec *spec, pj_error *err) {
    pj_reaper_job *own = (pj_reaper_job *)job;
    pj_ward *ward;
    if (pj_ward_prepare(own->guard, spec, job->keep, &ward, err) < 0) {
        return -1;
    }
    pj_reaper_prepare(own, ward);
    return 0;
}

static int exec(pj_job *job) {
    const pj_ward *ward = ((pj_reaper_job *)job)->prepared;
    return ward != NULL ? pj_ward_exec(ward) : EINVAL;
}

static int finish_ward(pj_reaper_job *own, pj_ward *stolen, pj_child *out, pj_error *err) {
    pj_child child;
    if (pj_ward_finish(stolen, &child, err) < 0) {
        pj_ward_unref(stolen);
        return -1;
    }
    if (child.child_errno != 0) {
        pj_ward_unref(stolen);
    } else if (pj_reaper_add(own, stolen, err) < 0) {
        return -1;
    }
    *out = child;
    return 0;
}

static int finish(pj_job *job, pj_child *out, pj_error *err) {
    pj_reaper_job *own = (pj_reaper_job *)job;
    pj_ward *ward = atomic_exchange(&own->prepared, NULL);
    if (ward == NULL) {
        return pj_fail(err, EINVAL, "pyjob-guard: nothing was prepared");
    }
    return finish_ward(own, ward, out, err);
}

static int spawn(pj_job *job, const pj_spec *spec, pj_child *out, pj_error *err) {
    pj_reaper_job *own = (pj_reaper_job *)job;
    pj_ward *ward;
    if (pj_ward_prepare(own->guard, spec, job->keep, &ward, err) < 0) {
        return -1;
    }
    if (pj_ward_start(ward, err) < 0) {
        pj_ward_unref(ward);
        return -1;
    }
    return finish_ward(own, ward, out, err);
}

static int collect(pj_job *job, pj_deadline deadline, int *returncode, pj_error *err) {
    pj_ward *ward = pj_reaper_latest((pj_reaper_job *)job);
    if (ward == NULL) {
        return pj_fail(err, ECHILD, "recv (pyjob-guard)");
    }
    int result = pj_ward_collect(ward, deadline, returncode, err);
    pj_ward_unref(ward);
    return result;
}

static int signal_program(pj_job *job, int sig, pj_error *err) {
    pj_ward *ward = pj_reaper_latest((pj_reaper_job *)job);
    if (ward == NULL) {
        return pj_fail(err, ESRCH, "pidfd_send_signal");
    }
    int result = pj_process_signal(&ward->program, sig, err);
    pj_ward_unref(ward);
    return result;
}

static int assign_self(pj_job *job, pj_error *err) {
    pj_reaper_job *own = (pj_reaper_job *)job;
    int result = 0;
    pthread_mutex_lock(own->lock);
    if (own->adoption == NULL) {
        result = pj_adoption_begin(&own->adoption, err);
    }
    if (result == 0) {
        job->holds_caller = true;
        job->denied |= PJ_DIES_WITH_OWNER | PJ_ATOMIC_KILL;
    }
    pthread_mutex_unlock(own->lock);
    return result;
}

static int release(pj_job *job, pj_error *err) {
    (void)err;
    job->keep = true;
    pj_reaper_say((pj_reaper_job *)job, PJ_RELEASE);
    return 0;
}

/* It was the parent of all that its program had started, so there is none in its place. */
static unsigned watch(pj_job *job) {
    return pj_reaper_lost((pj_reaper_job *)job) ? PJ_DIES_WITH_OWNER | PJ_ESCAPE_PROOF | PJ_COMPLETE_LIST : 0;
}

static void close_job(pj_job *job) {
    pj_reaper_close((pj_reaper_job *)job);
    pj_guard_collect(); /* we may have been adoptive when they were parked */
}

static void abandon(pj_job *job) {
    pj_reaper_abandon((pj_reaper_job *)job);
}

/* ---- members ---- */

static int add_all(pj_pids *to, const pj_pids *from, pj_error *err) {
    for (size_t i = 0; i < from->count; i++) {
        if (!pj_pids_add(to, from->items[i])) {
            return pj_fail(err, ENOMEM, "realloc");
        }
    }
    return 0;
}

static int list_crowd(const pj_crowd *crowd, pj_pids *out, pj_error *err) {
    const pj_forest forests[] = {pj_crowd_trees(crowd), pj_crowd_stumps(crowd)};
    for (int i = 0; i < 2; i++) {
        pj_pids some = {0};
        int result = forests[i].root_count > 0 ? pj_forest_list(&forests[i], &some, err) : 0;
        if (result == 0) {
            result = add_all(out, &some, err);
        }
        pj_pids_free(&some);
        if (result < 0) {
            return -1;
        }
    }
    if (crowd->holds_caller && !pj_pids_add(out, getpid())) {
        return pj_fail(err, ENOMEM, "realloc");
    }
    pj_pids_sort(out);
    return 0;
}

static int list(pj_job *job, pj_pids *out, pj_error *err) {
    pj_crowd crowd;
    pj_pids found = {0};
    if (pj_crowd_take((pj_reaper_job *)job, &crowd, err) < 0) {
        return -1;
    }
    int result = list_crowd(&crowd, &found, err);
    pj_crowd_free(&crowd);
    if (result < 0) {
        pj_pids_free(&found);
        return -1;
    }
    pj_pids_free(out);
    *out = found;
    return 0;
}

static int find(const pj_crowd *crowd, pj_hold *known, const pj_process *process, bool *out, pj_error *err) {
    const pj_forest forests[] = {pj_crowd_trees(crowd), pj_crowd_stumps(crowd)};
    bool inside = false;
    int result = 0;
    if (crowd->holds_caller && process->pid == getpid()) {
        result = pj_process_alive(process, &inside, err);
    }
    for (int i = 0; i < 2 && result == 0 && !inside; i++) {
        if (forests[i].root_count > 0) {
            result = pj_forest_contains(&forests[i], process, known, &inside, err);
        }
    }
    if (result == 0) {
        *out = inside;
    }
    return result;
}

static int contains(pj_job *job, const pj_process *process, bool *out, pj_error *err) {
    pj_crowd crowd;
    if (pj_crowd_take((pj_reaper_job *)job, &crowd, err) < 0) {
        return -1;
    }
    int result = find(&crowd, NULL, process, out, err);
    pj_crowd_free(&crowd);
    return result;
}

struct pj_walk {
    pj_crowd crowd;
    pj_hold known;
    uint64_t begun;
};

static int walk(pj_job *job, pj_walk **walk, const pj_process *process, bool *out, pj_error *err) {
    if (*walk == NULL) {
        pj_walk *own = calloc(1, sizeof *own);
        if (own == NULL) {
            return pj_fail(err, ENOMEM, "calloc");
        }
        own->begun = pj_procfs_now();
        if (pj_crowd_take((pj_reaper_job *)job, &own->crowd, err) < 0) {
            free(own);
            return -1;
        }
        *walk = own;
    }
    if (process->created > (*walk)->begun) { /* its PID was another's when the walk began */
        *out = false;
        return 0;
    }
    return find(&(*walk)->crowd, &(*walk)->known, process, out, err);
}

static void walk_end(pj_walk *walk) {
    pj_crowd_free(&walk->crowd);
    pj_hold_free(&walk->known);
    free(walk);
}

static int signal_members(pj_job *job, int sig, pj_error *err) {
    pj_crowd crowd;
    if (pj_crowd_take((pj_reaper_job *)job, &crowd, err) < 0) {
        return -1;
    }
    const pj_forest forests[] = {pj_crowd_trees(&crowd), pj_crowd_stumps(&crowd)};
    int result = 0;
    for (int i = 0; i < 2 && result == 0; i++) {
        result = forests[i].root_count > 0 ? pj_forest_signal(&forests[i], sig, err) : 0;
    }
    pj_crowd_free(&crowd);
    return result;
}

/* 0, 1 or -1 as pj_forest_kill(). */
static int kill_crowd(const pj_crowd *crowd, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    const pj_forest forests[] = {pj_crowd_trees(crowd), pj_crowd_stumps(crowd)};
    int left = 0;
    for (int i = 0; i < 2; i++) {
        pj_pids some = {0};
        int result = forests[i].root_count > 0 ? pj_forest_kill(&forests[i], deadline, NULL, &some, err) : 0;
        if (result == 1) {
            left = 1;
            result = add_all(survivors, &some, err);
        }
        pj_pids_free(&some);
        if (result < 0) {
            return -1;
        }
    }
    pj_pids_sort(survivors);
    return left;
}

/* hidepid hides another user's programs from every scan, and those that made themselves undumpable. But when all others
 * are dead they are children of their guard: its list names them (proc_tid_children(5)), and it can end some of them.
 */
static int add_hidden(pid_t pid, void *arg) {
    pj_stat unused;
    pj_error refused;
    if (pj_procfs_stat(pid, &unused, &refused) == 0 || refused.code != EACCES || pj_pids_add(arg, pid)) {
        return 0;
    }
    errno = ENOMEM;
    return -1;
}

static int end_hidden(const pj_crowd *crowd, bool tell, pj_pids *out, pj_error *err) {
    for (size_t i = 0; i < crowd->count; i++) {
        char path[64];
        const size_t before = out->count;
        const long long guard = crowd->wards[i]->guard.pid;
        snprintf(path, sizeof path, "/proc/%lld/task/%lld/children", guard, guard);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            continue; /* the guard is gone, or the kernel has no such file */
        }
        int result = pj_read_ids(fd, add_hidden, out);
        int code = errno;
        close(fd);
        if (result < 0 && code == ENOMEM) {
            return pj_fail(err, code, "realloc");
        }
        if (tell && out->count > before) {
            pj_ward_say(crowd->wards[i], PJ_END);
        }
    }
    pj_pids_sort(out);
    return 0;
}

/* 0, 1 or -1 as kill_members(). */
static int await_hidden(pj_reaper_job *own, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    bool hides = false;
    if (pj_procfs_hides(&hides, err) < 0) {
        return -1;
    }
    for (bool tell = true; hides; tell = false) {
        pj_crowd crowd;
        pj_pids hidden = {0};
        if (pj_crowd_take(own, &crowd, err) < 0) {
            return -1;
        }
        int result = end_hidden(&crowd, tell, &hidden, err);
        pj_crowd_free(&crowd);
        if (result == 0 && hidden.count > 0 && pj_now() >= deadline) {
            *survivors = hidden;
            return 1;
        }
        hides = hidden.count > 0;
        pj_pids_free(&hidden);
        if (result < 0) {
            return -1;
        }
        if (hides) {
            pj_sleep(LOOK_MS * PJ_MS);
        }
    }
    return 0;
}

/* Who was adopted by the caller and has died now is the caller's zombie: a look reaps it. */
static int reap_adopted(pj_reaper_job *own, pj_error *err) {
    pj_crowd crowd;
    if (!own->head.holds_caller) {
        return 0;
    }
    int result = pj_crowd_take(own, &crowd, err);
    if (result == 0) {
        pj_crowd_free(&crowd);
    }
    return result;
}

/* Programs that another thread starts meanwhile belong to it, too. Whoever does not wait leaves the rest to the guards.
 */
static int kill_members(pj_job *job, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    pj_reaper_job *own = (pj_reaper_job *)job;
    pj_pids left = {0};
    int result;
    if (pj_now() >= deadline) {
        pj_reaper_say(own, PJ_END);
    }
    unsigned long births;
    do {
        pj_crowd crowd;
        births = pj_reaper_births(own);
        if (pj_crowd_take(own, &crowd, err) < 0) {
            return -1;
        }
        result = kill_crowd(&crowd, deadline, &left, err);
        pj_crowd_free(&crowd);
    } while (result == 0 && births != pj_reaper_births(own) && pj_now() < deadline);
    if (result == 0) {
        result = await_hidden(own, deadline, &left, err);
    }
    if (result >= 0 && reap_adopted(own, err) < 0) {
        result = -1;
    }
    if (result == 1) {
        pj_pids_free(survivors);
        *survivors = left;
    } else {
        pj_pids_free(&left);
    }
    return result;
}

/* ---- waiting ---- */

typedef enum { FAILED = -1, CHANGED, TIMED_OUT, NOBODY } waited;

/* The guards tell when their trees are empty. Nobody does so for a killed guard's tree, or for the caller's own. */
static waited wait_crowd(const pj_crowd *crowd, pj_deadline deadline, pj_error *err) {
    for (size_t i = 0; i < crowd->count; i++) {
        if (pj_ward_look(crowd->wards[i]) == PJ_WARD_LIVE) {
            return (waited)pj_ward_await(crowd->wards[i], deadline, err);
        }
    }
    pj_pids living = {0};
    if (list_crowd(crowd, &living, err) < 0) {
        pj_pids_free(&living);
        return FAILED;
    }
    bool others = living.count > (crowd->holds_caller ? 1 : 0);
    pj_pids_free(&living);
    if (!others) {
        return NOBODY;
    }
    int64_t left = deadline - pj_now();
    pj_sleep(left < LOOK_MS * PJ_MS ? left : LOOK_MS * PJ_MS);
    return pj_now() >= deadline ? TIMED_OUT : CHANGED;
}

static int wait_members(pj_job *job, pj_deadline deadline, pj_error *err) {
    for (;;) {
        pj_crowd crowd;
        if (pj_crowd_take((pj_reaper_job *)job, &crowd, err) < 0) {
            return -1;
        }
        waited result = crowd.count == 0 && !crowd.holds_caller ? NOBODY : wait_crowd(&crowd, deadline, err);
        pj_crowd_free(&crowd);
        if (result != CHANGED) {
            return result == NOBODY ? 0 : (int)result;
        }
    }
}

/* Where we cannot hunt, for want of descriptors or memory, the guards can: each has its own. To tell them, and to hear
 * that their trees are empty, takes neither. */
static int kill_or_tell(pj_job *job, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    int result = kill_members(job, deadline, survivors, err);
    if (result < 0 && err->code != EINTR) {
        pj_error refused;
        pj_reaper_say((pj_reaper_job *)job, PJ_END);
        result = wait_members(job, deadline, &refused) == 0 ? 0 : -1;
        if (result < 0 && refused.code == EINTR) {
            *err = refused;
        }
    }
    return result;
}

const pj_backend pj_reaper_backend = {
    .name = "reaper",
    .probe = pj_reaper_probe,
    .create = create,
    .spawn = spawn,
    .prepare = prepare,
    .exec = exec,
    .finish = finish,
    .assign_self = assign_self,
    .list = list,
    .contains = contains,
    .walk = walk,
    .walk_end = walk_end,
    .signal = signal_members,
    .kill = kill_or_tell,
    .wait = wait_members,
    .watch = watch,
    .collect = collect,
    .signal_program = signal_program,
    .release = release,
    .close = close_job,
    .abandon = abandon,
};
