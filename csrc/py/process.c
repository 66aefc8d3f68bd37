/* _native.Process: a pinned process. */
#include "state.h"

static pj_process_object *allocate(PyTypeObject *type, PyObject *module) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    pj_process_object *self = (pj_process_object *)alloc(type, 0);
    if (self) {
        self->module = Py_NewRef(module);
        self->state = PyModule_GetState(module);
        self->forks = pj_forks(self->state);
        atomic_init(&self->gate.value, PJ_SHUT); /* nothing inside yet */
    }
    return self;
}

PyObject *pj_process_wrap(PyObject *module, pj_process *stolen) {
    pj_state *state = PyModule_GetState(module);
    pj_process_object *self = allocate(state->process_type, module);
    if (!self) {
        pj_process_close(stolen);
        return NULL;
    }
    self->process = *stolen;
    self->identity = pj_process_unique(stolen);
    if (self->identity == 0) { /* neither: equal to nobody else */
        self->identity = stolen->created != 0 ? stolen->created : (uintptr_t)self;
    }
    atomic_store(&self->gate.value, 0);
    return (PyObject *)self;
}

static PyObject *process_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"pid", NULL};
    long long pid;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L", names, &pid)) {
        return NULL;
    }
    PyObject *module = PyType_GetModule(type);
    if (!module) {
        return NULL;
    }
    pj_error err;
    pj_process process;
    int status;
    PJ_UNLOCKED(status = pj_process_open(pid, &process, &err));
    if (status < 0) {
        return pj_raise(PyModule_GetState(module), &err);
    }
    return pj_process_wrap(module, &process);
}

static int process_traverse(pj_process_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    return 0;
}

static int process_clear(pj_process_object *self) {
    (void)self; /* the module is needed until the end, and refers to no instance */
    return 0;
}

static void process_dealloc(pj_process_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (pj_gate_shut(&self->gate)) {
        pj_process_close(&self->process);
    }
    Py_XDECREF(self->module);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

bool pj_process_enter(pj_process_object *self) {
    if (pj_gate_enter(&self->gate)) {
        return true;
    }
    PyErr_SetString(PyExc_ValueError, "operation on a closed process handle");
    return false;
}

static PyObject *is_alive(pj_process_object *self, PyObject *unused) {
    (void)unused;
    if (!pj_process_enter(self)) {
        return NULL;
    }
    pj_error err;
    bool alive;
    int status;
    PJ_UNLOCKED(status = pj_process_alive(&self->process, &alive, &err));
    pj_gate_leave(&self->gate);
    return status < 0 ? pj_raise(self->state, &err) : PyBool_FromLong(alive);
}

static PyObject *send_signal(pj_process_object *self, PyObject *args) {
    int sig;
    if (!PyArg_ParseTuple(args, "i", &sig) || !pj_process_enter(self)) {
        return NULL;
    }
    pj_error err;
    int status;
    PJ_UNLOCKED(status = pj_process_signal(&self->process, sig, &err));
    pj_gate_leave(&self->gate);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

/* In slices, so that Ctrl-C is seen in time, and on Windows at all. Entered before; has left when it returns, since a
 * signal handler may well close the handle. */
static int wait_sliced(pj_process_object *self, pj_deadline deadline, int *code, bool *known) {
    for (;;) {
        pj_error err;
        int status;
        pj_deadline slice = pj_earlier(deadline, pj_now() + 100 * PJ_MS);
        PJ_UNLOCKED(status = pj_process_wait(&self->process, slice, code, known, &err));
        pj_gate_leave(&self->gate);
        if (status < 0 && !pj_is_interrupt(&err)) {
            pj_raise(self->state, &err);
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (status == 0 || (status == 1 && slice == deadline)) {
            return status;
        }
        if (!pj_process_enter(self)) {
            return -1;
        }
    }
}

static PyObject *wait_ended(pj_process_object *self, PyObject *args) {
    PyObject *timeout = Py_None;
    pj_deadline deadline;
    if (!PyArg_ParseTuple(args, "|O", &timeout) || !pj_to_deadline(timeout, &deadline) || !pj_process_enter(self)) {
        return NULL;
    }
    int code = 0;
    bool known = false;
    int status = wait_sliced(self, deadline, &code, &known);
    if (status < 0) {
        return NULL;
    }
    if (status == 0 && known) {
        return Py_BuildValue("(ON)", Py_True, pj_from_status(code));
    }
    return Py_BuildValue("(OO)", status == 0 ? Py_True : Py_False, Py_None);
}

static PyObject *close_handle(pj_process_object *self, PyObject *unused) {
    (void)unused;
    if (pj_gate_shut(&self->gate)) {
        if (self->forks == pj_forks(self->state)) { /* else who was inside is a thread of our parent */
            PJ_UNLOCKED((void)pj_gate_drain(&self->gate, PJ_NEVER));
        }
        pj_process_close(&self->process);
    }
    Py_RETURN_NONE;
}

static PyObject *children(pj_process_object *self, PyObject *args) {
    int recursive;
    if (!PyArg_ParseTuple(args, "p", &recursive) || !pj_process_enter(self)) {
        return NULL;
    }
    pj_error err;
    pj_pids pids = {0};
    int status;
    PJ_UNLOCKED(status = pj_children(self->process.pid, recursive, &pids, &err));
    bool alive = false;
    if (status == 0) { /* the list belongs to the pinned process only if that still lives */
        PJ_UNLOCKED(status = pj_process_alive(&self->process, &alive, &err));
    }
    pj_gate_leave(&self->gate);
    if (status < 0 || !alive) {
        pj_pids_free(&pids);
    }
    return status < 0 ? pj_raise(self->state, &err) : pj_from_pids(&pids);
}

typedef struct {
    pj_caller base;
    pj_process_object *self;
    PyThreadState *thread;
    unsigned forks;
    bool entered;
} visitor;

static bool go_on(pj_caller *base) {
    visitor *caller = (visitor *)base;
    pj_process_object *self = caller->self;
    pj_gate_leave(&self->gate); /* a signal handler may well close the handle */
    PyEval_RestoreThread(caller->thread);
    caller->entered = PyErr_CheckSignals() == 0 && pj_process_enter(self);
    bool same = atomic_load(&self->state->forks) == caller->forks;
    if (caller->entered && !same) { /* a handler forked, and this is the child: another one, with other ancestors */
        PyErr_SetString(self->state->closed_error, "kill_tree() goes on in the process that called it");
    }
    caller->thread = PyEval_SaveThread();
    return caller->entered && same;
}

static PyObject *kill_tree(pj_process_object *self, PyObject *args) {
    int include_root;
    PyObject *timeout;
    pj_deadline deadline;
    if (!PyArg_ParseTuple(args, "pO", &include_root, &timeout) || !pj_to_deadline(timeout, &deadline) ||
        !pj_process_enter(self)) {
        return NULL;
    }
    pj_error err;
    pj_pids killed = {0}, survivors = {0};
    visitor caller = {.base = {go_on}, .self = self, .forks = atomic_load(&self->state->forks), .entered = true};
    caller.thread = PyEval_SaveThread();
    int status = pj_kill_tree(&self->process, include_root, deadline, &caller.base, &killed, &survivors, &err);
    PyEval_RestoreThread(caller.thread);
    if (caller.entered) {
        pj_gate_leave(&self->gate);
    }
    if (status < 0) {
        pj_pids_free(&killed);
        pj_pids_free(&survivors);
        return PyErr_Occurred() ? NULL : pj_raise(self->state, &err);
    }
    return Py_BuildValue("(NNO)", pj_from_pids(&killed), pj_from_pids(&survivors), status == 0 ? Py_True : Py_False);
}

static PyObject *get_pid(pj_process_object *self, void *unused) {
    (void)unused;
    return PyLong_FromLongLong(self->process.pid);
}

static PyObject *get_create_time(pj_process_object *self, void *unused) {
    (void)unused;
    pj_error err;
    double seconds;
    if (pj_process_created(&self->process, &seconds, &err) < 0) {
        return pj_raise(self->state, &err);
    }
    return PyFloat_FromDouble(seconds);
}

static PyObject *get_identity(pj_process_object *self, void *unused) {
    (void)unused;
    return Py_BuildValue("(LK)", (long long)self->process.pid, self->identity);
}

static PyObject *get_pinned(pj_process_object *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->process.handle != -1);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"is_alive", METHOD(is_alive), METH_NOARGS, NULL},
    {"send_signal", METHOD(send_signal), METH_VARARGS, NULL},
    {"wait", METHOD(wait_ended), METH_VARARGS, NULL},
    {"close", METHOD(close_handle), METH_NOARGS, NULL},
    {"children", METHOD(children), METH_VARARGS, NULL},
    {"kill_tree", METHOD(kill_tree), METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"pid", (getter)get_pid, NULL, NULL, NULL},
    {"create_time", (getter)get_create_time, NULL, NULL, NULL},
    {"identity", (getter)get_identity, NULL, NULL, NULL},
    {"pinned", (getter)get_pinned, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, process_new},           {Py_tp_dealloc, process_dealloc},
    {Py_tp_traverse, process_traverse}, {Py_tp_clear, process_clear},
    {Py_tp_methods, methods},           {Py_tp_getset, properties},
    {Py_tp_doc, "A pinned process."},   {0, NULL},
};

PyType_Spec pj_process_spec = {
    .name = "pyjob._native.Process",
    .basicsize = sizeof(pj_process_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};
