/* The operations of _native.Job: looking at members and acting on them. */
#include "state.h"

/* ---- looking ---- */

static PyObject *pids(pj_job_object *self, PyObject *unused) {
    (void)unused;
    if (!pj_job_enter_alone(self)) {
        return NULL;
    }
    pj_error err;
    pj_pids list = {0};
    int status;
    PJ_UNLOCKED(status = self->backend->list(self->job, &list, &err));
    pj_gate_leave(&self->gate);
    return status < 0 ? pj_raise(self->state, &err) : pj_from_pids(&list);
}

static PyObject *contains(pj_job_object *self, PyObject *process) {
    if (Py_TYPE(process) != self->state->process_type) {
        PyErr_SetString(PyExc_TypeError, "a Process is needed");
        return NULL;
    }
    pj_process_object *pinned = (pj_process_object *)process;
    if (!pj_job_enter_alone(self)) {
        return NULL;
    }
    if (!pj_process_enter(pinned)) {
        pj_gate_leave(&self->gate);
        return NULL;
    }
    pj_error err;
    bool inside;
    int status;
    PJ_UNLOCKED(status = self->backend->contains(self->job, &pinned->process, &inside, &err));
    pj_gate_leave(&pinned->gate);
    pj_gate_leave(&self->gate);
    return status < 0 ? pj_raise(self->state, &err) : PyBool_FromLong(inside);
}

typedef int (*opener)(pj_pid pid, pj_process *out, pj_error *err);

/* What members() keeps between two members: the address of this is in a capsule. */
typedef struct {
    pj_job_object *job; /* owned */
    pj_walk *walk;
    atomic_flag busy; /* in another thread */
} walker;

static const char WALK[] = "pyjob._native.walk";

static void end_walk(PyObject *capsule) {
    walker *own = PyCapsule_GetPointer(capsule, WALK);
    if (own->walk) {
        own->job->backend->walk_end(own->walk);
    }
    Py_DECREF((PyObject *)own->job);
    PyMem_Free(own);
}

static PyObject *walk(pj_job_object *self, PyObject *unused) {
    (void)unused;
    walker *own = PyMem_Calloc(1, sizeof *own);
    if (!own) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(own, WALK, end_walk);
    if (!capsule) {
        PyMem_Free(own);
        return NULL;
    }
    own->job = (pj_job_object *)Py_NewRef((PyObject *)self);
    return capsule;
}

static int verify(pj_job_object *self, walker *own, const pj_process *process, bool *inside, pj_error *err) {
    if (!own || !self->backend->walk || atomic_flag_test_and_set(&own->busy)) {
        return self->backend->contains(self->job, process, inside, err);
    }
    int status = self->backend->walk(self->job, &own->walk, process, inside, err);
    atomic_flag_clear(&own->busy);
    return status;
}

/* Pinned first, verified after. *inside is false for whom nobody is; the pin is kept only for a member. */
static int pin_member(pj_job_object *self, walker *own, opener pin, pj_pid pid, pj_process *out, bool *inside,
                      pj_error *err) {
    *inside = false;
    if (pin(pid, out, err) < 0) {
        return pj_is_nobody(err) ? 0 : -1;
    }
    int status = verify(self, own, out, inside, err);
    if (status < 0 || !*inside) {
        pj_process_close(out);
    }
    return status;
}

static bool look(pj_job_object *self, walker *own, opener pin, pj_pid pid, pj_process *out, bool *inside) {
    if (!pj_job_enter_alone(self)) {
        return false;
    }
    pj_error err;
    int status;
    PJ_UNLOCKED(status = pin_member(self, own, pin, pid, out, inside, &err));
    pj_gate_leave(&self->gate);
    if (status < 0) {
        pj_raise(self->state, &err);
    }
    return status == 0;
}

static PyObject *contains_pid(pj_job_object *self, PyObject *arg) {
    long long pid = PyLong_AsLongLong(arg);
    pj_process process;
    bool inside;
    if ((pid == -1 && PyErr_Occurred()) || !look(self, NULL, pj_process_pin, pid, &process, &inside)) {
        return NULL;
    }
    if (inside) {
        pj_process_close(&process);
    }
    return PyBool_FromLong(inside);
}

static PyObject *pin(pj_job_object *self, PyObject *args) {
    long long pid;
    PyObject *capsule = NULL;
    pj_process process;
    bool inside;
    if (!PyArg_ParseTuple(args, "L|O", &pid, &capsule)) {
        return NULL;
    }
    walker *own = capsule ? PyCapsule_GetPointer(capsule, WALK) : NULL;
    if (own && own->job != self) {
        PyErr_SetString(PyExc_ValueError, "the walk is another job's");
        return NULL;
    }
    if ((capsule && !own) || !look(self, own, pj_process_open, pid, &process, &inside)) {
        return NULL;
    }
    if (inside) {
        return pj_process_wrap(self->module, &process);
    }
    Py_RETURN_NONE;
}

/* ---- acting ---- */

static PyObject *job_signal(pj_job_object *self, PyObject *args) {
    int sig;
    if (!PyArg_ParseTuple(args, "i", &sig) || !pj_job_enter_alone(self)) {
        return NULL;
    }
    pj_error err;
    int status;
    PJ_UNLOCKED(status = self->backend->signal(self->job, sig, &err));
    pj_gate_leave(&self->gate);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

static PyObject *job_kill(pj_job_object *self, PyObject *args) {
    PyObject *timeout;
    pj_deadline deadline;
    if (!PyArg_ParseTuple(args, "O", &timeout) || !pj_to_deadline(timeout, &deadline) || !pj_job_enter_alone(self)) {
        return NULL;
    }
    pj_error err;
    pj_pids survivors = {0};
    int status = pj_job_kill_until(self, deadline, &survivors, &err);
    if (status < 0) {
        pj_pids_free(&survivors);
        return PyErr_Occurred() ? NULL : pj_raise(self->state, &err);
    }
    return pj_from_pids(&survivors);
}

/* Whether close() found the exit status. In another thread it may still be about to. */
static bool was_kept(pj_job_object *self, int *returncode) {
    unsigned long closer;
    while ((closer = atomic_load(&self->closer)) != 0 && closer != PyThread_get_thread_ident()) {
        PJ_UNLOCKED(pj_sleep(PJ_MS));
    }
    *returncode = self->returncode;
    return self->has_returncode;
}

/* What wait() and collect() have in common: slices of 50 ms, between which signals and close() are seen. Entered
 * before; has left when it returns, since a signal handler may well close the job. */
static int block(pj_job_object *self, pj_deadline deadline, int *returncode) {
    for (;;) {
        pj_error err;
        int status;
        pj_deadline slice = pj_earlier(deadline, pj_now() + 50 * PJ_MS);
        PJ_UNLOCKED(status = returncode ? self->backend->collect(self->job, slice, returncode, &err)
                                        : self->backend->wait(self->job, slice, &err));
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
        while (!pj_gate_enter(&self->gate)) {
            if (returncode && was_kept(self, returncode)) {
                return 0;
            }
            if (!returncode || pj_gate_is_shut(&self->gate)) { /* else close() has failed */
                pj_job_refuse(self, "the job was closed meanwhile");
                return -1;
            }
        }
    }
}

static PyObject *job_wait(pj_job_object *self, PyObject *args) {
    PyObject *timeout;
    pj_deadline deadline;
    if (!PyArg_ParseTuple(args, "O", &timeout) || !pj_to_deadline(timeout, &deadline) || !pj_job_enter_alone(self)) {
        return NULL;
    }
    int status = block(self, deadline, NULL);
    return status < 0 ? NULL : PyBool_FromLong(status == 0);
}

static bool is_collected(const pj_job_object *self) {
    if (!self->backend->collect) {
        PyErr_SetString(PyExc_ValueError, "the program is the caller's own child: os.waitpid(), os.kill()");
    }
    return self->backend->collect != NULL;
}

static PyObject *collect(pj_job_object *self, PyObject *args) {
    PyObject *timeout;
    pj_deadline deadline;
    if (!PyArg_ParseTuple(args, "O", &timeout) || !pj_to_deadline(timeout, &deadline)) {
        return NULL;
    }
    if (!is_collected(self)) {
        return NULL;
    }
    int returncode = 0;
    if (pj_job_is_owner(self) && pj_gate_is_shut(&self->gate) && was_kept(self, &returncode)) {
        return PyLong_FromLong(returncode);
    }
    if (!pj_job_enter_alone(self)) {
        return NULL;
    }
    int status = block(self, deadline, &returncode);
    if (status == 1) {
        Py_RETURN_NONE;
    }
    return status < 0 ? NULL : PyLong_FromLong(returncode);
}

static PyObject *signal_program(pj_job_object *self, PyObject *args) {
    int sig;
    if (!PyArg_ParseTuple(args, "i", &sig) || !is_collected(self) || !pj_job_enter_alone(self)) {
        return NULL;
    }
    pj_error err;
    int status;
    PJ_UNLOCKED(status = self->backend->signal_program(self->job, sig, &err));
    pj_gate_leave(&self->gate);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

static PyObject *assign(pj_job_object *self, PyObject *process) {
    if (Py_TYPE(process) != self->state->process_type) {
        PyErr_SetString(PyExc_TypeError, "a Process is needed");
        return NULL;
    }
    pj_process_object *pinned = (pj_process_object *)process;
    pj_error err;
    if (!self->backend->assign) {
        (void)pj_unsupported(&err, "this backend cannot move a running process into a job");
        return pj_raise(self->state, &err);
    }
    if (!pj_job_enter(self)) {
        return NULL;
    }
    if (!pj_process_enter(pinned)) {
        pj_job_leave(self);
        return NULL;
    }
    int status;
    PJ_UNLOCKED(status = self->backend->assign(self->job, &pinned->process, &err));
    pj_gate_leave(&pinned->gate);
    pj_job_leave(self);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

static PyObject *assign_self(pj_job_object *self, PyObject *unused) {
    (void)unused;
    pj_error err;
    if (!self->backend->assign_self) {
        (void)pj_unsupported(&err, "this backend cannot take the calling process into a job");
        return pj_raise(self->state, &err);
    }
    if (!pj_job_enter(self)) {
        return NULL;
    }
    int status;
    PJ_UNLOCKED(status = self->backend->assign_self(self->job, &err));
    pj_job_leave(self);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

static PyObject *release(pj_job_object *self, PyObject *unused) {
    (void)unused;
    if (!pj_job_enter_alone(self)) {
        return NULL;
    }
    pj_error err;
    int status;
    PJ_UNLOCKED(status = self->backend->release(self->job, &err));
    pj_gate_leave(&self->gate);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

PyMethodDef pj_job_methods[] = {
    {"create", pj_job_create, METH_VARARGS | METH_CLASS, NULL},
    {"open", pj_job_open, METH_VARARGS | METH_CLASS, NULL},
    {"pids", METHOD(pids), METH_NOARGS, NULL},
    {"contains", METHOD(contains), METH_O, NULL},
    {"contains_pid", METHOD(contains_pid), METH_O, NULL},
    {"pin", METHOD(pin), METH_VARARGS, NULL},
    {"walk", METHOD(walk), METH_NOARGS, NULL},
    {"signal", METHOD(job_signal), METH_VARARGS, NULL},
    {"kill", METHOD(job_kill), METH_VARARGS, NULL},
    {"wait", METHOD(job_wait), METH_VARARGS, NULL},
    {"collect", METHOD(collect), METH_VARARGS, NULL},
    {"signal_program", METHOD(signal_program), METH_VARARGS, NULL},
    {"assign", METHOD(assign), METH_O, NULL},
    {"assign_self", METHOD(assign_self), METH_NOARGS, NULL},
    {"release", METHOD(release), METH_NOARGS, NULL},
    {"close", METHOD(pj_job_close), METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
