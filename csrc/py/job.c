/* _native.Job: one backend's job behind a gate. Every call that may block runs without the GIL, and in slices. */
#include "state.h"

#include <string.h>

/* ---- who may enter ---- */

bool pj_job_is_owner(const pj_job_object *self) {
    return self->forks == pj_forks(self->state);
}

bool pj_job_refuse(pj_job_object *self, const char *why) {
    PyErr_SetString(self->state->closed_error, why);
    return false;
}

/* Asked before anything that could wait for a thread which the fork did not copy. */
bool pj_job_enter_alone(pj_job_object *self) {
    if (!pj_job_is_owner(self)) {
        return pj_job_refuse(self, "the job belongs to the process that made it, not to a forked child");
    }
    return pj_gate_enter(&self->gate) || pj_job_refuse(self, "the job is closed");
}

/* Whoever brings somebody in must find all the jobs around open, too: close() of one of them waits for it. */
bool pj_job_enter(pj_job_object *self) {
    for (pj_job_object *job = self; job; job = job->parent) {
        if (!pj_job_enter_alone(job)) {
            for (pj_job_object *entered = self; entered != job; entered = entered->parent) {
                pj_gate_leave(&entered->gate);
            }
            return false;
        }
    }
    return true;
}

void pj_job_leave(pj_job_object *self) {
    for (pj_job_object *job = self; job; job = job->parent) {
        pj_gate_leave(&job->gate);
    }
}

bool pj_gate_drain(pj_gate *gate, pj_deadline deadline) {
    bool empty;
    for (int64_t pause = PJ_MS / 50; !(empty = atomic_load(&gate->value) == PJ_SHUT) && pj_now() < deadline;
         pause += pause < 2 * PJ_MS ? pause : 0) {
        pj_sleep(pause);
    }
    return empty;
}

/* ---- making and unmaking ---- */

static pj_job_object *wrap(PyObject *module, const pj_backend *backend, pj_job *job, pj_job_object *parent) {
    pj_state *state = PyModule_GetState(module);
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->job_type, Py_tp_alloc);
    pj_job_object *self = (pj_job_object *)alloc(state->job_type, 0);
    if (!self) {
        backend->close(job);
        return NULL;
    }
    self->module = Py_NewRef(module);
    self->state = state;
    self->parent = (pj_job_object *)Py_XNewRef((PyObject *)parent);
    self->backend = backend;
    self->job = job;
    atomic_init(&self->gate.value, 0);
    atomic_init(&self->closer, 0);
    self->forks = pj_forks(state);
    return self;
}

static const pj_backend *find_backend(const char *name) {
    for (const pj_backend *const *at = pj_backends; *at; at++) {
        if (strcmp((*at)->name, name) == 0) {
            return *at;
        }
    }
    PyErr_Format(PyExc_ValueError, "unknown backend: '%s'", name);
    return NULL;
}

static bool check_parent(pj_state *state, PyObject *parent, const pj_backend *backend) {
    if (parent == Py_None) {
        return true;
    }
    if (Py_TYPE(parent) != state->job_type) {
        PyErr_SetString(PyExc_TypeError, "parent must be a Job or None");
        return false;
    }
    if (((pj_job_object *)parent)->backend != backend) {
        PyErr_SetString(PyExc_ValueError, "a job must have the backend of the job around it");
        return false;
    }
    return true;
}

static PyObject *create(PyObject *module, const pj_backend *backend, pj_job_object *around, pj_create *how) {
    pj_state *state = PyModule_GetState(module);
    if (around && !pj_job_enter(around)) {
        return NULL;
    }
    how->platform = state->platform;
    how->parent = around ? around->job : NULL;
    pj_error err;
    pj_job *job;
    int status;
    PJ_UNLOCKED(status = backend->create(how, &job, &err));
    pj_job_object *self = status < 0 ? NULL : wrap(module, backend, job, around);
    if (around) {
        pj_job_leave(around);
    }
    return status < 0 ? pj_raise(state, &err) : (PyObject *)self;
}

PyObject *pj_job_create(PyObject *type, PyObject *args) {
    PyObject *module = PyType_GetModule((PyTypeObject *)type);
    const char *backend_name, *name;
    PyObject *parent, *guard, *result = NULL;
    int keep;
    if (!PyArg_ParseTuple(args, "sOzpO&", &backend_name, &parent, &name, &keep, PyUnicode_FSConverter, &guard)) {
        return NULL;
    }
    const pj_backend *backend = find_backend(backend_name);
    if (backend && check_parent(PyModule_GetState(module), parent, backend)) {
        pj_create how = {.name = name, .keep = keep, .guard = PyBytes_AsString(guard)};
        result = create(module, backend, parent == Py_None ? NULL : (pj_job_object *)parent, &how);
    }
    Py_DECREF(guard);
    return result;
}

PyObject *pj_job_open(PyObject *type, PyObject *args) {
    PyObject *module = PyType_GetModule((PyTypeObject *)type);
    pj_state *state = PyModule_GetState(module);
    const char *backend_name, *name;
    if (!PyArg_ParseTuple(args, "ss", &backend_name, &name)) {
        return NULL;
    }
    const pj_backend *backend = find_backend(backend_name);
    if (!backend) {
        return NULL;
    }
    pj_error err;
    pj_job *job;
    int status;
    if (!backend->open) {
        (void)pj_unsupported(&err, "this backend has no named jobs");
        return pj_raise(state, &err);
    }
    PJ_UNLOCKED(status = backend->open(name, &job, &err));
    return status < 0 ? pj_raise(state, &err) : (PyObject *)wrap(module, backend, job, NULL);
}

/* For whoever asks while nobody may enter: before the gate is shut, since without a GIL somebody may ask at once. */
static void remember(pj_job_object *self, bool holds_caller) {
    self->keep = self->job->keep;
    self->holds_caller = holds_caller;
    self->denied = self->job->denied;
}

/* Forgotten first: a child forked meanwhile by another thread finds a job that is whole, or none. */
static void let_go(pj_job_object *self, bool abandon) {
    pj_job *job = self->job;
    self->job = NULL;
    (abandon ? self->backend->abandon : self->backend->close)(job);
}

int pj_job_kill_until(pj_job_object *self, pj_deadline deadline, pj_pids *survivors, pj_error *err) {
    for (;;) {
        int status;
        pj_deadline slice = pj_earlier(deadline, pj_now() + 1000 * PJ_MS);
        pj_pids left = {0};
        PJ_UNLOCKED(status = self->backend->kill(self->job, slice, &left, err));
        pj_gate_leave(&self->gate);
        bool last = status == 0 || (status == 1 && slice == deadline) || (status < 0 && !pj_is_interrupt(err));
        bool raised = PyErr_CheckSignals() < 0;
        if (last && status == 1 && !raised) {
            *survivors = left;
        } else {
            pj_pids_free(&left);
        }
        if (raised || last) {
            return raised ? -1 : status;
        }
        if (!pj_gate_enter(&self->gate)) {
            return 0;
        }
    }
}

/* true: it is ours to close. Another thread that is at it is waited for: it may fail. false, without an exception: it
 * is closed; or this is a signal handler in the midst of its own thread's close(). */
static bool begin_close(pj_job_object *self) {
    const unsigned long self_thread = PyThread_get_thread_ident();
    for (unsigned long nobody = 0; !atomic_compare_exchange_strong(&self->closer, &nobody, self_thread); nobody = 0) {
        if (nobody == self_thread) {
            return false;
        }
        PJ_UNLOCKED(pj_sleep(PJ_MS));
        if (PyErr_CheckSignals() < 0 || !pj_job_is_owner(self)) {
            return false;
        }
    }
    if (pj_gate_is_shut(&self->gate)) {
        atomic_store(&self->closer, 0);
        return false;
    }
    remember(self, self->job->holds_caller);
    return pj_gate_shut(&self->gate); /* only the closer shuts it */
}

/* Nobody enters any more. Who is inside, with a start into a group that somebody froze, may leave only when what it
 * started is killed: so both take turns, and the last kill comes when nobody is inside. true: it may be let go. false:
 * an exception is set, or *status tells: it stays open, as who may live in it could not be reached any more. */
static bool empty(pj_job_object *self, bool kill, pj_deadline deadline, int *status, pj_pids *survivors,
                  pj_error *err) {
    for (;;) {
        bool alone;
        *status = 0;
        PJ_UNLOCKED(alone = pj_gate_drain(&self->gate, pj_now() + 50 * PJ_MS));
        pj_deadline slice = alone ? pj_earlier(deadline, pj_now() + 1000 * PJ_MS) : pj_now();
        if (kill) {
            pj_pids_free(survivors);
            PJ_UNLOCKED(*status = self->backend->kill(self->job, slice, survivors, err));
        }
        bool last = *status == 0 ? alone : *status == 1 ? pj_now() >= deadline : !pj_is_interrupt(err);
        if (last || PyErr_CheckSignals() < 0) {
            return last && alone && *status >= 0;
        }
        if (!pj_job_is_owner(self)) { /* a signal handler forked, and we are the child */
            pj_pids_free(survivors);
            *status = 0;
            return false;
        }
    }
}

/* Whoever asks for the exit status after close() gets it, if the program has ended by now. */
static void keep_returncode(pj_job_object *self) {
    pj_error err;
    self->has_returncode =
        self->backend->collect && self->backend->collect(self->job, pj_now(), &self->returncode, &err) == 0;
}

PyObject *pj_job_close(pj_job_object *self, PyObject *args) {
    int kill;
    PyObject *timeout;
    pj_deadline deadline;
    if (!PyArg_ParseTuple(args, "pO", &kill, &timeout) || !pj_to_deadline(timeout, &deadline)) {
        return NULL;
    }
    if (!pj_job_is_owner(self)) {
        if (pj_gate_shut(&self->gate)) {
            remember(self, false);
            let_go(self, true);
        }
        return PyList_New(0);
    }
    if (!begin_close(self)) {
        return PyErr_Occurred() ? NULL : PyList_New(0);
    }
    pj_error err;
    pj_pids survivors = {0};
    int status;
    if (empty(self, kill, deadline, &status, &survivors, &err)) {
        remember(self, false);
        PJ_UNLOCKED(keep_returncode(self); let_go(self, false));
    } else {
        pj_gate_open(&self->gate);
    }
    atomic_store(&self->closer, 0);
    if (status < 0 || PyErr_Occurred()) {
        pj_pids_free(&survivors);
        return PyErr_Occurred() ? NULL : pj_raise(self->state, &err);
    }
    return pj_from_pids(&survivors);
}

static int job_traverse(pj_job_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    Py_VISIT((PyObject *)self->parent);
    return 0;
}

static int job_clear(pj_job_object *self) {
    (void)self; /* a parent is older than its children: no cycle goes through it */
    return 0;
}

/* From a loop: jobs may be nested deeper than the stack of a small thread is. */
static void drop_ancestors(pj_job_object *job) {
    while (job && Py_REFCNT((PyObject *)job) == 1) {
        pj_job_object *above = job->parent;
        job->parent = NULL;
        Py_DECREF((PyObject *)job);
        job = above;
    }
    Py_XDECREF((PyObject *)job);
}

/* Whoever wants the members dead calls close() before. What was never closed is one whose maker was interrupted by an
 * exception from a signal handler before it could keep it: nobody else would take back what the system has of it. At
 * the end of the interpreter that is left to the guard. */
static void job_dealloc(pj_job_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->job && pj_job_is_owner(self) && Py_IsInitialized()) {
        PJ_UNLOCKED(let_go(self, false));
    } else if (self->job) {
        let_go(self, true);
    }
    drop_ancestors(self->parent);
    Py_XDECREF(self->module);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* ---- what it is ---- */

static PyObject *get_backend(pj_job_object *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(self->backend->name);
}

static PyObject *get_parent(pj_job_object *self, void *unused) {
    (void)unused;
    return Py_NewRef(self->parent ? (PyObject *)self->parent : Py_None);
}

static PyObject *get_closed(pj_job_object *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(pj_gate_is_shut(&self->gate) || !pj_job_is_owner(self));
}

static PyObject *get_collects(pj_job_object *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->backend->collect != NULL);
}

static PyObject *get_keep(pj_job_object *self, void *unused) {
    (void)unused;
    bool inside = pj_gate_enter(&self->gate);
    bool keep = inside ? self->job->keep : self->keep;
    if (inside) {
        pj_gate_leave(&self->gate);
    }
    return PyBool_FromLong(keep);
}

static PyObject *get_holds_caller(pj_job_object *self, void *unused) {
    (void)unused;
    bool inside = pj_gate_enter(&self->gate);
    bool holds = inside ? self->job->holds_caller : self->holds_caller;
    if (inside) {
        pj_gate_leave(&self->gate);
    }
    return PyBool_FromLong(holds);
}

static PyObject *get_denied(pj_job_object *self, void *unused) {
    (void)unused;
    bool inside = pj_gate_enter(&self->gate);
    unsigned denied = inside ? self->job->denied : self->denied;
    if (inside && self->backend->watch && pj_job_is_owner(self)) {
        unsigned gone;
        PJ_UNLOCKED(gone = self->backend->watch(self->job));
        denied |= gone;
    }
    if (inside) {
        pj_gate_leave(&self->gate);
    }
    return PyLong_FromUnsignedLong(denied);
}

static PyGetSetDef properties[] = {
    {"backend", (getter)get_backend, NULL, NULL, NULL}, {"parent", (getter)get_parent, NULL, NULL, NULL},
    {"closed", (getter)get_closed, NULL, NULL, NULL},   {"collects", (getter)get_collects, NULL, NULL, NULL},
    {"keep", (getter)get_keep, NULL, NULL, NULL},       {"holds_caller", (getter)get_holds_caller, NULL, NULL, NULL},
    {"denied", (getter)get_denied, NULL, NULL, NULL},   {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, job_dealloc},
    {Py_tp_traverse, job_traverse},
    {Py_tp_clear, job_clear},
    {Py_tp_methods, pj_job_methods},
    {Py_tp_getset, properties},
    {Py_tp_doc, "A backend's job."},
    {0, NULL},
};

PyType_Spec pj_job_spec = {
    .name = "pyjob._native.Job",
    .basicsize = sizeof(pj_job_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
