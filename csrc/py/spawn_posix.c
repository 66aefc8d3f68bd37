/* Job.spawn() on POSIX: arguments to a pj_spec, the start without the GIL, and the same in three steps for preexec_fn.
 */
#include "state.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "posix/spec.h"

extern char **environ;

typedef struct {
    pj_spec spec;
    char **argv, **executables, **envp;
    int *pass_fds;
    gid_t *groups;
} request;

static void free_request(request *self) {
    PyMem_Free(self->argv);
    PyMem_Free(self->executables);
    PyMem_Free(self->envp);
    PyMem_Free(self->pass_fds);
    PyMem_Free(self->groups);
}

/* Taken while we hold the GIL: another thread's os.putenv() may free what the child is about to pass to execve(). */
static bool copy_environment(char ***out) {
    size_t count = 0, room = sizeof(char *);
    while (environ && environ[count]) {
        room += sizeof(char *) + strlen(environ[count++]) + 1;
    }
    char **pointers = PyMem_Malloc(room);
    if (!pointers) {
        PyErr_NoMemory();
        return false;
    }
    char *next = (char *)(pointers + count + 1);
    for (size_t at = 0; at < count; at++) {
        size_t length = strlen(environ[at]) + 1;
        memcpy(next, environ[at], length);
        pointers[at] = next;
        next += length;
    }
    pointers[count] = NULL;
    *out = pointers;
    return true;
}

static bool to_id(PyObject *value, bool *set, unsigned *out) {
    *set = value != Py_None;
    if (!*set) {
        return true;
    }
    unsigned long id = PyLong_AsUnsignedLong(value);
    if (PyErr_Occurred()) {
        return false;
    }
    if (id > UINT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "user or group id is out of range");
        return false;
    }
    *out = (unsigned)id;
    return true;
}

/* One block of `size`-byte unsigned or int values; `as` stores one. */
static bool to_array(PyObject *sequence, size_t size, bool (*as)(PyObject *, void *), void **out, size_t *count) {
    PyObject *tuple = PySequence_Tuple(sequence);
    if (!tuple) {
        return false;
    }
    size_t length = (size_t)PyTuple_Size(tuple);
    char *items = PyMem_Malloc((length + 1) * size);
    bool ok = items != NULL;
    if (!ok) {
        PyErr_NoMemory();
    }
    for (size_t at = 0; ok && at < length; at++) {
        ok = as(PyTuple_GetItem(tuple, (Py_ssize_t)at), items + at * size);
    }
    Py_DECREF(tuple);
    if (!ok) {
        PyMem_Free(items);
        return false;
    }
    *out = items;
    *count = length;
    return true;
}

static bool as_fd(PyObject *value, void *out) {
    long fd = PyLong_AsLong(value);
    if (fd == -1 && PyErr_Occurred()) {
        return false;
    }
    if (fd < 0 || fd > INT_MAX) {
        PyErr_SetString(PyExc_ValueError, "bad value(s) in fds_to_keep");
        return false;
    }
    *(int *)out = (int)fd;
    return true;
}

static bool as_gid(PyObject *value, void *out) {
    unsigned id;
    bool set;
    if (!to_id(value, &set, &id)) {
        return false;
    }
    *(gid_t *)out = id;
    return true;
}

static bool fill(request *self, PyObject *env, PyObject *pass_fds, PyObject *gid, PyObject *groups, PyObject *uid) {
    pj_spec *spec = &self->spec;
    void *array;
    if (!(env == Py_None ? copy_environment(&self->envp) : pj_to_strings(env, &self->envp))) {
        return false;
    }
    if (!to_array(pass_fds, sizeof(int), as_fd, &array, &spec->pass_count)) {
        return false;
    }
    spec->pass_fds = self->pass_fds = array;
    if (groups != Py_None) {
        if (!to_array(groups, sizeof(gid_t), as_gid, &array, &spec->group_count)) {
            return false;
        }
        spec->groups = self->groups = array;
        spec->set_groups = true;
    }
    spec->argv = self->argv;
    spec->executables = self->executables;
    spec->envp = self->envp;
    return to_id(gid, &spec->set_gid, &spec->gid) && to_id(uid, &spec->set_uid, &spec->uid);
}

static bool parse(PyObject *args, request *self) {
    PyObject *argv, *executables, *env, *cwd, *pass_fds, *gid, *groups, *uid;
    pj_spec *spec = &self->spec;
    int close_fds, restore_signals, start_new_session;
    if (!PyArg_ParseTuple(args, "OOOOpO(iiiiii)ppiOOOi", &argv, &executables, &env, &cwd, &close_fds, &pass_fds,
                          &spec->p2cread, &spec->p2cwrite, &spec->c2pread, &spec->c2pwrite, &spec->errread,
                          &spec->errwrite, &restore_signals, &start_new_session, &spec->process_group, &gid, &groups,
                          &uid, &spec->umask)) {
        return false;
    }
    if (cwd != Py_None && !(spec->cwd = PyBytes_AsString(cwd))) { /* the arguments keep it */
        return false;
    }
    spec->close_fds = close_fds;
    spec->restore_signals = restore_signals;
    spec->start_new_session = start_new_session;
    if (!pj_to_strings(argv, &self->argv) || !pj_to_strings(executables, &self->executables)) {
        return false;
    }
    if (!self->argv[0] || !self->executables[0]) {
        PyErr_SetString(PyExc_ValueError, "argv and executables must not be empty");
        return false;
    }
    return fill(self, env, pass_fds, gid, groups, uid);
}

/* (pid, errno, stage, path) */
static PyObject *started(const pj_child *child) {
    bool refused = child->child_errno != 0;
    return Py_BuildValue("(Liss)", refused ? -1LL : (long long)child->process.pid, child->child_errno,
                         refused ? child->stage : "", child->path);
}

static PyObject *spawn(pj_job_object *self, PyObject *args) {
    request wanted = {0};
    PyObject *result = NULL;
    if (!parse(args, &wanted) || !pj_job_enter(self)) {
        goto done;
    }
    pj_error err;
    pj_child child = {0};
    int status;
    PJ_UNLOCKED(status = self->backend->spawn(self->job, &wanted.spec, &child, &err));
    result = status < 0 ? pj_raise(self->state, &err) : started(&child);
    pj_job_leave(self);
done:
    free_request(&wanted);
    return result;
}

static PyObject *guard_prepare(pj_job_object *self, PyObject *args) {
    request wanted = {0};
    PyObject *result = NULL;
    pj_error err;
    if (!self->backend->prepare) {
        (void)pj_unsupported(&err, "this backend starts no guard for a program");
        return pj_raise(self->state, &err);
    }
    if (!parse(args, &wanted) || !pj_job_enter(self)) {
        goto done;
    }
    int status;
    PJ_UNLOCKED(status = self->backend->prepare(self->job, &wanted.spec, &err));
    result = status < 0 ? pj_raise(self->state, &err) : Py_NewRef(Py_None);
    pj_job_leave(self);
done:
    free_request(&wanted);
    return result;
}

/* In a grandchild that the caller forked: no gate, and the GIL is nobody else's. */
static PyObject *guard_exec(pj_job_object *self, PyObject *unused) {
    (void)unused;
    bool can = self->job && self->backend->exec && !pj_job_is_owner(self);
    return PyLong_FromLong(can ? self->backend->exec(self->job) : EINVAL);
}

static PyObject *guard_finish(pj_job_object *self, PyObject *unused) {
    (void)unused;
    pj_error err;
    if (!self->backend->finish) {
        (void)pj_unsupported(&err, "this backend starts no guard for a program");
        return pj_raise(self->state, &err);
    }
    if (!pj_job_enter(self)) {
        return NULL;
    }
    pj_child child = {0};
    int status;
    PJ_UNLOCKED(status = self->backend->finish(self->job, &child, &err));
    PyObject *result = status < 0 ? pj_raise(self->state, &err) : started(&child);
    pj_job_leave(self);
    return result;
}

/* In a child that the caller forked (preexec_fn): no gate, see guard_exec(). */
static PyObject *join(pj_job_object *self, PyObject *unused) {
    (void)unused;
    pj_error err;
    int status = 0;
    if (!self->job) {
        pj_job_refuse(self, "the job is closed");
        return NULL;
    }
    if (!self->backend->join) {
        (void)pj_unsupported(&err, "this backend cannot be joined by a child of the caller");
        return pj_raise(self->state, &err);
    }
    if (pj_job_is_owner(self)) {
        (void)pj_unsupported(&err, "only a forked child joins; the owner has assign_self()");
        return pj_raise(self->state, &err);
    }
    status = self->backend->join(self->job, &err);
    if (status < 0) {
        return pj_raise(self->state, &err);
    }
    Py_RETURN_NONE;
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

PyMethodDef pj_spawn_methods[] = {
    {"spawn", METHOD(spawn), METH_VARARGS, NULL},
    {"guard_prepare", METHOD(guard_prepare), METH_VARARGS, NULL},
    {"guard_exec", METHOD(guard_exec), METH_NOARGS, NULL},
    {"guard_finish", METHOD(guard_finish), METH_NOARGS, NULL},
    {"join", METHOD(join), METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
