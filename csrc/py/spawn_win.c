/* Job.spawn_windows(): arguments to a pj_spec, and the start without the GIL. */
#include "state.h"

#include "win/spec.h"

typedef struct {
    pj_spec spec;
    wchar_t *application, *command_line, *environment, *cwd; /* PyMem */
    HANDLE *handles;
} request;

static void free_request(request *self) {
    PyMem_Free(self->application);
    PyMem_Free(self->command_line);
    PyMem_Free(self->environment);
    PyMem_Free(self->cwd);
    PyMem_Free(self->handles);
}

/* NULL as the length has the converter refuse an embedded NUL, with a ValueError. */
static bool to_text(PyObject *value, wchar_t **out) {
    *out = value == Py_None ? NULL : PyUnicode_AsWideCharString(value, NULL);
    return value == Py_None || *out;
}

/* A block has NULs inside: its length is taken, and the end is looked at, since the system reads up to two NULs. */
static bool to_block(PyObject *value, wchar_t **out) {
    Py_ssize_t length = 0;
    *out = NULL;
    if (value == Py_None) {
        return true;
    }
    wchar_t *block = PyUnicode_AsWideCharString(value, &length);
    if (!block) {
        return false;
    }
    if (length < 1 || block[length - 1] != L'\0') {
        PyMem_Free(block);
        PyErr_SetString(PyExc_ValueError, "the environment block must end with a null character");
        return false;
    }
    *out = block; /* the second NUL is the converter's own */
    return true;
}

static HANDLE as_handle(PyObject *value) {
    return PyLong_AsVoidPtr(value); /* NULL is a value of its own; an exception says what failed */
}

static bool to_handles(PyObject *value, HANDLE **out, size_t *count) {
    if (value == Py_None) {
        return true;
    }
    PyObject *tuple = PySequence_Tuple(value);
    if (!tuple) {
        return false;
    }
    size_t length = (size_t)PyTuple_Size(tuple);
    HANDLE *handles = PyMem_Malloc((length + 1) * sizeof *handles);
    if (!handles) {
        PyErr_NoMemory();
    }
    for (size_t at = 0; handles && at < length; at++) {
        handles[at] = as_handle(PyTuple_GetItem(tuple, (Py_ssize_t)at));
    }
    Py_DECREF(tuple);
    *out = handles;
    *count = length;
    return !PyErr_Occurred();
}

static bool to_std(PyObject *value, pj_spec *spec) {
    if (value == Py_None) {
        return true;
    }
    if (!PyTuple_Check(value) || PyTuple_Size(value) != 3) {
        PyErr_SetString(PyExc_TypeError, "std must be a tuple of three handles or None");
        return false;
    }
    for (Py_ssize_t at = 0; at < 3; at++) {
        spec->std[at] = as_handle(PyTuple_GetItem(value, at));
    }
    spec->use_std = true;
    return !PyErr_Occurred();
}

static bool parse(PyObject *args, PyObject *kwargs, request *self) {
    static char *names[] = {"application", "command_line", "env",  "cwd",      "close_fds", "handles",
                            "std",         "flags",        "show", "creation", "inherit",   NULL};
    PyObject *application, *command_line, *environment, *cwd, *handles, *std;
    unsigned long flags, creation;
    unsigned short show;
    int close_fds, inherit;
    pj_spec *spec = &self->spec;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OUOOpOOkHkp", names, &application, &command_line, &environment,
                                     &cwd, &close_fds, &handles, &std, &flags, &show, &creation, &inherit)) {
        return false;
    }
    if (!to_text(application, &self->application) || !to_text(command_line, &self->command_line) ||
        !to_block(environment, &self->environment) || !to_text(cwd, &self->cwd) ||
        !to_handles(handles, &self->handles, &spec->handle_count) || !to_std(std, spec)) {
        return false;
    }
    spec->application = self->application;
    spec->command_line = self->command_line;
    spec->environment = self->environment;
    spec->cwd = self->cwd;
    spec->handles = self->handles;
    spec->flags = flags;
    spec->show = show;
    spec->creation = creation;
    spec->inherit = inherit; /* it is what close_fds comes down to, once a list of handles is taken into account */
    return true;
}

/* (process handle, thread handle, pid, tid, path): both handles are the caller's. */
static PyObject *spawn_windows(pj_job_object *self, PyObject *args, PyObject *kwargs) {
    request wanted = {0};
    PyObject *result = NULL;
    if (!parse(args, kwargs, &wanted) || !pj_job_enter(self)) {
        goto done;
    }
    pj_error err;
    pj_child child = {0};
    int status;
    PJ_UNLOCKED(status = self->backend->spawn(self->job, &wanted.spec, &child, &err));
    result = status < 0 ? pj_raise(self->state, &err)
                        : Py_BuildValue("(LLLLs)", (long long)child.process.handle, (long long)child.thread,
                                        (long long)child.process.pid, (long long)child.thread_id, child.path);
    pj_job_leave(self);
done:
    free_request(&wanted);
    return result;
}

PyMethodDef pj_spawn_methods[] = {
    {"spawn_windows", (PyCFunction)(void (*)(void))spawn_windows, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};
