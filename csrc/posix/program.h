/* A program that leads a process group, and the proof that the group's number is still its own.
 *
 * A number is not given away while a process, a zombie or a group has it. So the group of a leader that we have not
 * reaped is ours; where the system can signal a group by the identity of its leader (Linux 6.9), it is ours even after
 * that. Where neither holds (somebody else in this process reaped the leader), the number may be a stranger's and is
 * not used. */
#ifndef PJ_POSIX_PROGRAM_H
#define PJ_POSIX_PROGRAM_H

#include "core/process.h"

typedef struct pj_program {
    struct pj_program *next;
    unsigned refs;
    pj_process process;
    pj_pid group;   /* that it leads; 0: it joined another one, and is alone what we know of it */
    bool by_handle; /* pj_group_signal() works on it */
    bool ended, reaped;
    bool over;      /* its group was found empty after its end */
    bool known;     /* returncode is */
    bool collected; /* and was asked for */
    int returncode; /* as Popen's */
    int terminal;   /* that its group was given, to be given back; or -1 */
} pj_program;

/* Called by one thread at a time: the owner of the programs has a lock. */

/* Whether it ended, and with what; never reaps. Takes the terminal back from a program that has ended. */
void pj_program_look(pj_program *program);

/* Whether somebody may be there whom the group's number means: 1. 0: for sure nobody. -1: who has that number now may
 * be a stranger. */
int pj_program_holds(pj_program *program, pj_error *err);

/* Gives the number of a program that has ended back, if it is not needed as a proof any more, or anyway. */
void pj_program_reap(pj_program *program, bool anyway);

/* To the group, or to the program alone. Whom we may not signal is passed over. The caller is not in that group. */
int pj_program_signal(pj_program *program, int sig, pj_error *err);

void pj_program_unref(pj_program *program); /* closes and frees with the last reference */

/* The controlling terminal, if `group` is its foreground group; or -1. */
int pj_terminal_of(pj_pid group);
void pj_terminal_give(int terminal, pj_pid group); /* closes the descriptor; nothing happens without one */
/* Makes the caller's group the foreground group again, if `group` is it. Closes the descriptor. */
void pj_terminal_back(int terminal, pj_pid group);
/* If Ctrl-Z has stopped a program whose group has our terminal, the caller and its group stop as well, as they would
 * have in the foreground; continued, they continue the program. Called without the lock. */
void pj_terminal_follow(const pj_process *program, bool by_handle);

#endif
