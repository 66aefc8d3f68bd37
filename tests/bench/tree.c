/*
 * tree SHAPE SIZE: a tree of SIZE processes that do nothing, and the cheapest there are. SHAPE is wide (all are
 * children of the root), deep (each has one child) or mixed (each has up to four).
 *
 * Each writes one byte to standard output when it is there and keeps that open: who reads knows by SIZE bytes that all
 * are there, and by end of file that all have ended. They share a process group that the root leads. The root ends all
 * the others and reaps its children on SIGTERM, which it is sent when its parent ends: nothing outlives the benchmark.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The nodes are numbered from 0; which number has the given child of `node`? */
static long child(char shape, long node, long which) {
    switch (shape) {
    case 'w':
        return node == 0 ? which + 1 : -1;
    case 'd':
        return which == 0 ? node + 1 : -1;
    default:
        return which < 4 ? 4 * node + which + 1 : -1;
    }
}

/* Returns in every process of the tree, as in fork(). */
static void grow(char shape, long size) {
    long node = 0;
    for (long which = 0;; which++) {
        long next = child(shape, node, which);
        if (next < 0 || next >= size) {
            return;
        }
        pid_t pid = fork();
        if (pid < 0) {
            (void)!write(STDOUT_FILENO, "!", 1);
            return;
        }
        if (pid == 0) {
            node = next;
            which = -1;
        }
    }
}

int main(int count, char **arguments) {
    if (count != 3) {
        return 2;
    }
    (void)setpgid(0, 0); /* EPERM: leads a session, and so a group, already */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, NULL);

    pid_t root = getpid();
    grow(arguments[1][0], strtol(arguments[2], NULL, 10));
    if (getpid() != root) {
        sigprocmask(SIG_UNBLOCK, &ending, NULL);
    }
    if (write(STDOUT_FILENO, ".", 1) != 1) {
        return 1;
    }
    if (getpid() != root) {
        for (;;) {
            pause();
        }
    }
    int number;
    sigwait(&ending, &number);
    kill(0, SIGTERM); /* blocked here, deadly to all the others */
    while (wait(NULL) > 0) {
    }
    return 0;
}
