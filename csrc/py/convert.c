#include "state.h"

#include <string.h>

/* 100 years: past it a timeout is no timeout, and nanoseconds still fit. */
#define LONGEST 3153600000.0

bool pj_to_deadline(PyObject *timeout, pj_deadline *out) {
    if (timeout == Py_None) {
        *out = PJ_NEVER;
        return true;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return false;
    }
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "timeout must not be NaN");
        return false;
    }
    if (seconds >= LONGEST) {
        *out = PJ_NEVER;
    } else {
        *out = pj_now() + (seconds > 0 ? (int64_t)(seconds * 1e9) : 0);
    }
    return true;
}

PyObject *pj_from_pids(pj_pids *stolen) {
    PyObject *list = PyList_New((Py_ssize_t)stolen->count);
    for (size_t at = 0; list && at < stolen->count; at++) {
        PyObject *pid = PyLong_FromLongLong(stolen->items[at]);
        if (!pid || PyList_SetItem(list, (Py_ssize_t)at, pid) < 0) {
            Py_CLEAR(list);
        }
    }
    pj_pids_free(stolen);
    return list;
}

/* The pointers first, the texts behind them: one block. Filled in a second pass over the same tuple. */
static bool copy_strings(PyObject *tuple, char ***out) {
    Py_ssize_t count = PyTuple_Size(tuple);
    size_t room = ((size_t)count + 1) * sizeof(char *);
    for (Py_ssize_t at = 0; at < count; at++) {
        char *text;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, at), &text, &length) < 0) {
            return false;
        }
        if (memchr(text, 0, (size_t)length)) {
            PyErr_SetString(PyExc_ValueError, "embedded null byte");
            return false;
        }
        room += (size_t)length + 1;
    }
    char **pointers = PyMem_Malloc(room);
    if (!pointers) {
        PyErr_NoMemory();
        return false;
    }
    char *next = (char *)(pointers + count + 1);
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *item = PyTuple_GetItem(tuple, at);
        size_t length = (size_t)PyBytes_Size(item) + 1;
        memcpy(next, PyBytes_AsString(item), length);
        pointers[at] = next;
        next += length;
    }
    pointers[count] = NULL;
    *out = pointers;
    return true;
}

bool pj_to_strings(PyObject *sequence, char ***out) {
    PyObject *tuple = PySequence_Tuple(sequence);
    bool copied = tuple && copy_strings(tuple, out);
    Py_XDECREF(tuple);
    return copied;
}
