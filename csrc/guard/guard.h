/* The parts of the guard; main.c tells what it is. */
#ifndef PJ_GUARD_GUARD_H
#define PJ_GUARD_GUARD_H

#include <signal.h>

#include "linux/protocol.h"

/* Closes every descriptor but these (at most 4, -1 for none). */
void pj_close_others(const int *keep, size_t count);

/* Whether the owner, by a pidfd or its /proc/PID/stat, is dead. A refused look says no. */
bool pj_owner_is_proc(int owner);
bool pj_owner_dead(int owner, bool is_proc);

/* To the owner. Who is gone already is seen by its pidfd. */
void pj_tell_owner(int socket, int kind, int first, int second, int third);

/* Starts the program and tells the owner. 0: it runs; else there is nothing left to guard. `mask`: the caller's
 * signals. */
int pj_start_program(const pj_wire *wire, size_t size, const int *own, uint64_t mask, int socket, pid_t *program);

/* Guards a tree until it is empty. With a program that it starts, as the owner describes it; with one that is its child
 * already. `flags`: pj_wire.flags. */
int pj_guard_tree(int socket, int owner, uint64_t mask);
int pj_guard_child(int socket, int owner, pid_t child, uint32_t flags);

#endif
