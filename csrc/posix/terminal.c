#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/groups.h"
#include "posix/program.h"

/* tcsetpgrp(3) from the background sends SIGTTOU, unless that is blocked. */
static void set_foreground(int terminal, pid_t group) {
    sigset_t output, mask;
    sigemptyset(&output);
    sigaddset(&output, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &output, &mask);
    tcsetpgrp(terminal, group);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

int pj_terminal_of(pj_pid group) {
    int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal >= 0 && tcgetpgrp(terminal) != (pid_t)group) {
        close(terminal);
        terminal = -1;
    }
    return terminal;
}

void pj_terminal_give(int terminal, pj_pid group) {
    if (terminal >= 0) {
        set_foreground(terminal, (pid_t)group);
        close(terminal);
    }
}

void pj_terminal_back(int terminal, pj_pid group) {
    if (terminal < 0) {
        return;
    }
    if (group > 0 && tcgetpgrp(terminal) == (pid_t)group) {
        set_foreground(terminal, getpgrp());
    }
    close(terminal);
}

void pj_terminal_follow(const pj_process *program, bool by_handle) {
    siginfo_t stopped = {0};
    pid_t group = (pid_t)program->pid;
    if (waitid(P_PID, (id_t)group, &stopped, WSTOPPED | WNOHANG | WNOWAIT) < 0 || stopped.si_pid != group ||
        stopped.si_status != SIGTSTP) {
        return;
    }
    int terminal = pj_terminal_of(group);
    if (terminal < 0) {
        return;
    }
    set_foreground(terminal, getpgrp());
    kill(0, SIGTSTP);
    pj_sleep(10 * PJ_MS); /* the stop reaches this thread last, if another one takes the signal */
    if (tcgetpgrp(terminal) == getpgrp()) {
        set_foreground(terminal, group);
    }
    close(terminal);
    if (by_handle) {
        pj_group_signal(program, SIGCONT);
    } else {
        killpg(group, SIGCONT); /* stopped and not reaped: only the caller's own wait() in this instant could free it */
    }
}
