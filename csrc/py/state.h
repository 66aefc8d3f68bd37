/* What the binding's files share: the module's state, its two types, and the gate that close() shuts. */
#ifndef PJ_PY_STATE_H
#define PJ_PY_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>

#include "core/backend.h"

/* Headers of 3.12 take None for immortal even where the limited API's floor is older: on 3.10 that loses a reference.
 */
#undef Py_RETURN_NONE
#define Py_RETURN_NONE return Py_NewRef(Py_None)
#undef Py_RETURN_TRUE
#define Py_RETURN_TRUE return Py_NewRef(Py_True)
#undef Py_RETURN_FALSE
#define Py_RETURN_FALSE return Py_NewRef(Py_False)

typedef struct {
    PyTypeObject *job_type, *process_type;
    PyObject *closed_error, *unsupported;
    pj_platform *platform;
    atomic_uint forks;  /* how often this process came out of fork() as the child: see pj_forks() */
    _Atomic pj_pid pid; /* as it was then */
} pj_state;

/* Whoever remembers it knows later whether it is in the same process. A fork made in C, of which CPython's hooks know
 * nothing, is seen here. */
unsigned pj_forks(pj_state *state);

/* Counts who is inside; once shut, nobody enters. Free of locks, so that a forked child finds none held. */
typedef struct {
    atomic_uint value; /* PJ_SHUT | number inside */
} pj_gate;

#define PJ_SHUT 0x80000000u

static inline bool pj_gate_is_shut(pj_gate *gate) {
    return atomic_load(&gate->value) & PJ_SHUT;
}

static inline bool pj_gate_enter(pj_gate *gate) {
    if (atomic_fetch_add(&gate->value, 1) & PJ_SHUT) {
        atomic_fetch_sub(&gate->value, 1);
        return false;
    }
    return true;
}

static inline void pj_gate_leave(pj_gate *gate) {
    atomic_fetch_sub(&gate->value, 1);
}

/* False: it was shut already. */
static inline bool pj_gate_shut(pj_gate *gate) {
    return !(atomic_fetch_or(&gate->value, PJ_SHUT) & PJ_SHUT);
}

static inline void pj_gate_open(pj_gate *gate) {
    atomic_fetch_and(&gate->value, ~PJ_SHUT);
}

/* Blocks until nobody is inside; called without the GIL. false: at the deadline somebody is. */
bool pj_gate_drain(pj_gate *gate, pj_deadline deadline);

typedef struct pj_job_object {
    PyObject_HEAD PyObject *module;
    pj_state *state;
    struct pj_job_object *parent; /* owned, or NULL */
    const pj_backend *backend;
    pj_job *job; /* NULL once let go */
    pj_gate gate;
    atomic_ulong closer; /* the thread that is in close(), until it has let go; 0: none */
    unsigned forks;      /* pj_state.forks when it was made: the owner is who made it */
    int returncode;      /* of the program, kept by close() for a later collect() */
    bool has_returncode;
    atomic_bool keep, holds_caller; /* as they were when nobody could enter any more */
    atomic_uint denied;
} pj_job_object;

typedef struct {
    PyObject_HEAD PyObject *module;
    pj_state *state;
    pj_process process;
    unsigned long long identity; /* beside its PID */
    pj_gate gate;
    unsigned forks; /* pj_state.forks when it was made */
} pj_process_object;

extern PyType_Spec pj_job_spec, pj_process_spec;
extern PyMethodDef pj_job_methods[];   /* job_ops.c */
extern PyMethodDef pj_spawn_methods[]; /* spawn_posix.c, spawn_win.c: module.c adds them to Job */

PyObject *pj_job_create(PyObject *type, PyObject *args);
PyObject *pj_job_open(PyObject *type, PyObject *args);

/* job.c. Entering fails with ClosedError set. pj_job_enter() enters the jobs around, too: for whatever brings somebody
 * in. */
bool pj_job_enter_alone(pj_job_object *self);
bool pj_job_enter(pj_job_object *self);
void pj_job_leave(pj_job_object *self);
bool pj_job_is_owner(const pj_job_object *self);
bool pj_job_refuse(pj_job_object *self, const char *why); /* sets ClosedError, returns false */
PyObject *pj_job_close(pj_job_object *self, PyObject *args);

/* Kills in slices. 0 and 1 as backend.kill(); -1 with *err filled or, interrupted, with a Python exception. Entered
 * before; has left when it returns, 0 also when the job was closed meanwhile, since close() goes on with it. */
int pj_job_kill_until(pj_job_object *self, pj_deadline deadline, pj_pids *survivors, pj_error *err);

bool pj_process_enter(pj_process_object *self);                  /* false with ValueError: the handle is closed */
PyObject *pj_process_wrap(PyObject *module, pj_process *stolen); /* closes it on failure */

/* convert.c */
bool pj_to_deadline(PyObject *timeout, pj_deadline *out); /* None or seconds; false with an exception */
PyObject *pj_from_pids(pj_pids *stolen);                  /* frees the list */
bool pj_to_strings(PyObject *sequence,
                   char ***out); /* of bytes, ends with NULL, one block to PyMem_Free(); NULs refused */

/* raise.c: returns NULL, so that a caller can write `return pj_raise(state, &err);`. */
PyObject *pj_raise(pj_state *state, const pj_error *err);

/* os_posix.c, os_win.c */
PyObject *pj_os_error(int code, const char *call); /* a new OSError, or NULL with an exception */
PyObject *pj_from_status(int status);              /* of pj_process_wait(), as Popen.returncode has it */
bool pj_is_nobody(const pj_error *err);            /* no process has that PID */
bool pj_is_interrupt(const pj_error *err);         /* a signal arrived */

/* Runs `statement`, which must not touch Python objects, without the GIL. */
#define PJ_UNLOCKED(statement)                                                                                         \
    do {                                                                                                               \
        PyThreadState *saved_ = PyEval_SaveThread();                                                                   \
        statement;                                                                                                     \
        PyEval_RestoreThread(saved_);                                                                                  \
    } while (0)

#endif
