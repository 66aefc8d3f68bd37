/* The arena of tests/stress: a PID namespace in which every number is used again within a moment.
 *
 *     strangers init PID_MAX COMMAND... -- COMMAND...   PID 1: starts the innocents and the commands, reaps whoever
 * comes strangers member LIFE_MS WIDTH                    what a job has to contain: forks, executes, leaves, never
 * rests strangers leaf LIFE_MS                            a member's child that executed a program
 *
 * All of them, and the Python side (helpers/strangers.py), share one file, named by $STRANGERS: the counters, and a
 * ring of the PIDs that members have given up. An innocent is born under each of those numbers as soon as it is free
 * (/proc/sys/kernel/ns_last_pid), leads a process group of that number, and at times has a child. An innocent that is
 * ended, stopped or continued by a signal is counted by whoever waits for it. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RING = 256, VICTIMS = 16, STANDING = 56, PLAIN = 16, PATIENCE_MS = 40, LEFT_SECONDS = 30, BURDEN = 24 << 20 };
enum { CONTINUED = 99, CHILD_HIT = 98 };

typedef struct { /* helpers/strangers.py knows the order */
    _Atomic uint32_t stop, drain, innocents, forced, hits, members, operations[2];
    struct {
        _Atomic uint32_t pid, status, forced;
    } victims[VICTIMS];
    _Atomic uint32_t head;
    _Atomic uint32_t ring[RING];
} arena;

static arena *shared;
static const char *program;
static uint32_t seed;

static _Noreturn void die(const char *what) {
    perror(what);
    _exit(70);
}

static void open_arena(void) {
    int fd = open(getenv("STRANGERS"), O_RDWR | O_CLOEXEC);
    shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        die("$STRANGERS");
    }
    close(fd);
}

static uint32_t below(uint32_t limit) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % limit;
}

static void sow(void) { /* in a new process */
    seed = (uint32_t)getpid() * 2654435761u ^ (uint32_t)clock() ^ seed;
    seed = seed ? seed : 1;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms) {
    for (int64_t end = now_ms() + ms, left; (left = end - now_ms()) > 0;) {
        struct timespec pause = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
}

/* Async-signal-safe. */
static void give_up(pid_t pid) {
    atomic_store(&shared->ring[atomic_fetch_add(&shared->head, 1) % RING], (uint32_t)pid);
}

static bool put(const char *path, long number) {
    char text[24];
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int size = snprintf(text, sizeof text, "%ld", number);
    bool done = fd >= 0 && write(fd, text, (size_t)size) == size;
    if (fd >= 0) {
        close(fd);
    }
    return done;
}

/* ---- innocents ---- */

typedef struct {
    pid_t pid; /* 0: nobody */
    bool forced;
} innocent;

typedef struct {
    pid_t pid;
    int64_t until;
} wish;

static innocent standing[STANDING];
static wish wishes[RING];
static int standing_count, forced_count, wish_count;

static void is_continued(int sig) {
    (void)sig;
    _exit(CONTINUED);
}

static bool was_hit(int status) {
    return WIFSIGNALED(status) || WIFSTOPPED(status) || WEXITSTATUS(status) != 0;
}

static _Noreturn void live(bool forced) {
    setpriority(PRIO_PROCESS, 0, 0);
    sow();
    int64_t life = forced ? 20 + below(50) : below(12);
    if (!forced || below(2)) {
        sleep_ms(life);
        _exit(0);
    }
    pid_t child = fork();
    if (child == 0) {
        sleep_ms(life);
        _exit(0);
    }
    int status = 0;
    if (child > 0) {
        waitpid(child, &status, WUNTRACED);
    }
    if (child > 0 && WIFSTOPPED(status)) {
        kill(child, SIGKILL);
    }
    _exit(was_hit(status) ? CHILD_HIT : 0);
}

static bool bear(pid_t number) {
    int at = 0;
    while (standing[at].pid) {
        at++;
    }
    if (number && !put("/proc/sys/kernel/ns_last_pid", number - 1)) {
        die("ns_last_pid");
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (number && below(3)) {
            setpgid(0, 0);
        } else if (number) {
            setsid();
        }
        live(number != 0);
    }
    if (pid < 0) {
        return false;
    }
    bool forced = number == pid;
    standing[at] = (innocent){.pid = pid, .forced = forced};
    standing_count++;
    forced_count += forced;
    atomic_fetch_add(&shared->innocents, 1);
    atomic_fetch_add(&shared->forced, forced);
    return true;
}

static void count_hit(pid_t pid, int status, bool forced) {
    uint32_t at = atomic_fetch_add(&shared->hits, 1);
    if (at < VICTIMS) {
        atomic_store(&shared->victims[at].pid, (uint32_t)pid);
        atomic_store(&shared->victims[at].status, (uint32_t)status);
        atomic_store(&shared->victims[at].forced, forced);
    }
}

static void bury(bool wait) {
    int status;
    pid_t pid;
    while (standing_count > 0 && (pid = waitpid(-1, &status, WUNTRACED | (wait ? 0 : WNOHANG))) > 0) {
        wait = false;
        int at = 0;
        while (at < STANDING && standing[at].pid != pid) {
            at++;
        }
        if (at == STANDING) { /* one that was stopped, and counted then */
            continue;
        }
        if (was_hit(status)) {
            count_hit(pid, status, standing[at].forced);
        }
        if (WIFSTOPPED(status)) {
            kill(-pid, SIGKILL); /* its child, which was stopped with it; unreaped, the number is its own */
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        standing[at].pid = 0;
        standing_count--;
        forced_count -= standing[at].forced;
    }
}

static void hear_wishes(uint32_t *tail) {
    uint32_t head = atomic_load(&shared->head);
    if (head - *tail > RING) {
        *tail = head - RING;
    }
    for (; *tail != head && wish_count < RING; ++*tail) {
        pid_t pid = (pid_t)atomic_load(&shared->ring[*tail % RING]);
        if (pid > 1) {
            wishes[wish_count++] = (wish){.pid = pid, .until = now_ms() + PATIENCE_MS};
        }
    }
}

/* Whose PID is free at this moment, if any; those still in use are asked for again later. */
static pid_t next_number(void) {
    int64_t now = now_ms();
    for (int at = 0; at < wish_count;) {
        wish one = wishes[at];
        bool taken = kill(one.pid, 0) == 0 || errno != ESRCH;
        if (taken && now < one.until) {
            at++;
            continue;
        }
        wishes[at] = wishes[--wish_count];
        if (!taken) {
            return one.pid;
        }
    }
    return 0;
}

static _Noreturn void keep_innocents(bool turn) {
    prctl(PR_SET_NAME, "innocent");
    setpriority(PRIO_PROCESS, 0, -20); /* a number is to be taken at once, on a busy machine too */
    signal(SIGCONT, is_continued);
    sow();
    for (uint32_t tail = 0, births = 0; !atomic_load(&shared->drain);) {
        hear_wishes(&tail);
        bool room = standing_count < STANDING, born = false;
        pid_t number = room ? next_number() : 0;
        if (number || (room && standing_count - forced_count < PLAIN)) {
            if (turn && !number && ++births % 250 == 0) {
                put("/proc/sys/kernel/ns_last_pid", 300);
            }
            born = bear(number);
        }
        bury(false);
        if (!born) {
            usleep(300);
        }
    }
    for (int left; (left = standing_count) > 0;) {
        bury(true);
        if (standing_count == left) {
            die("an innocent is lost");
        }
    }
    _exit(0);
}

/* ---- members ---- */

static _Noreturn void leave(void) {
    give_up(getpid());
    _exit(0);
}

static void asked_to_end(int sig) {
    (void)sig;
    leave();
}

static void heard(int sig) {
    (void)sig;
}

static pid_t fork_member(void) {
    pid_t pid = fork();
    if (pid == 0) {
        atomic_fetch_add(&shared->members, 1);
        sow();
        signal(SIGTERM, below(4) ? asked_to_end : SIG_IGN);
    }
    return pid;
}

static _Noreturn void be_child(void) {
    char life[16];
    uint32_t stay = 2 + below(below(2) ? 20 : 60);
    snprintf(life, sizeof life, "%u", stay);
    switch (below(6)) {
    case 0:
        break;
    case 1: /* leaves an orphan to whoever reaps it */
        if (fork_member() == 0) {
            break;
        }
        leave();
    case 2:
        setsid();
        break;
    case 3:
        execl(program, program, "leaf", life, (char *)NULL);
        break;
    case 4:
        fork_member();
        break;
    default: /* a daemon */
        setsid();
        if (fork_member() != 0) {
            leave();
        }
    }
    sleep_ms(stay);
    leave();
}

static _Noreturn void be_member(int64_t life, int width) {
    struct sigaction hear = {.sa_handler = heard, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &hear, NULL);
    sow();
    signal(SIGTERM, below(4) ? asked_to_end : SIG_IGN);
    int children = 0;
    for (int64_t end = now_ms() + life; now_ms() < end;) {
        if (children < width) {
            pid_t pid = fork_member();
            if (pid == 0) {
                be_child();
            }
            children += pid > 0;
        }
        pid_t ended = children < width ? 0 : waitpid(-1, NULL, WNOHANG);
        children -= ended > 0;
        sleep_ms(ended > 0 ? 0 : 1);
    }
    leave();
}

/* ---- PID 1 ---- */

static pid_t start(char **command) {
    pid_t pid = fork();
    if (pid == 0) {
        setpriority(PRIO_PROCESS, 0, -10); /* strace, and what it traces, is slow enough */
        execv(command[0], command);
        die(command[0]);
    }
    return pid < 0 ? (die("fork"), 0) : pid;
}

/* Everybody else has to end by himself, guards included. */
static int await_others(void) {
    for (int64_t end = now_ms() + 1000 * LEFT_SECONDS; now_ms() < end;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD) {
            return 0;
        }
        if (pid == 0) {
            usleep(2000);
        }
    }
    fprintf(stderr, "processes are left\n");
    return 3;
}

/* Once something failed, the rest need not go on. */
static int judge(const char *who, int status, int code, int result) {
    if (status == 0) {
        return result;
    }
    fprintf(stderr, "%s ended with %#x\n", who, (unsigned)status);
    atomic_store(&shared->stop, 1);
    return code;
}

static int be_init(long pid_max, char **commands) {
    if (pid_max > 0 && !put("/proc/sys/kernel/pid_max", pid_max)) {
        die("pid_max");
    }
    pid_t keeper = fork();
    if (keeper == 0) {
        keep_innocents(pid_max == 0);
    }
    pid_t drivers[2] = {0};
    int running = 0, result = 0;
    for (char **first = commands; *first && running < 2;) {
        char **end = first;
        while (*end && strcmp(*end, "--") != 0) {
            end++;
        }
        char **next = *end ? end + 1 : end;
        *end = NULL;
        drivers[running++] = start(first);
        first = next;
    }
    while (keeper > 0) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid == keeper) {
            result = judge("the innocents' keeper", status, 2, result);
            keeper = 0;
        } else if (pid > 0 && (pid == drivers[0] || pid == drivers[1])) {
            result = judge("a driver", status, 1, result);
            atomic_store(&shared->drain, --running == 0);
        } else if (pid > 0) {
            give_up(pid); /* an orphan, likely a member */
        }
    }
    return result ? result : await_others();
}

int main(int count, char **arguments) {
    program = arguments[0];
    open_arena();
    if (count >= 4 && strcmp(arguments[1], "init") == 0) {
        return be_init(atol(arguments[2]), arguments + 3);
    }
    prctl(PR_SET_NAME, "member");
    setpriority(PRIO_PROCESS, 0, 0);
    if (count == 4 && strcmp(arguments[1], "member") == 0) {
        atomic_fetch_add(&shared->members, 1);
        be_member(atol(arguments[2]), atoi(arguments[3]));
    }
    if (count == 3 && strcmp(arguments[1], "leaf") == 0) {
        sow();
        if (below(3) == 0) { /* takes long to die */
            mmap(NULL, BURDEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        }
        sleep_ms(atol(arguments[2]));
        leave();
    }
    fprintf(stderr, "strangers: bad arguments\n");
    return 64;
}
