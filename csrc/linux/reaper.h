/* The reaper backend: needs no privilege. Each program has a guard of its own (csrc/guard) that is its parent and its
 * subreaper: whatever the program starts, and whatever becomes of the parents in between, stays below the guard. A job
 * is the trees of the guards of its programs, and of the jobs in it.
 *
 * The guard ends its tree when the owner has ended, in any way; it is seen by its pidfd, so execve(2) keeps the owner.
 * release(): what was adopted cannot be given to somebody else, so the guard goes only in this sense: it ends nobody
 * any more. It stays as the parent, reaps, and leaves when its tree is empty.
 *
 * assign_self() makes the caller itself the subreaper (linux/adopt.h). No other thread should be starting a program in
 * that moment: a guard that is just losing its first parent would become the caller's visible child. */
#ifndef PJ_LINUX_REAPER_H
#define PJ_LINUX_REAPER_H

#include "core/backend.h"

extern const pj_backend pj_reaper_backend;

void pj_reaper_probe(const char *guard, pj_probe *out); /* reaper_probe.c */

#endif
