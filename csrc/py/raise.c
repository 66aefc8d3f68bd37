#include "state.h"

static void set_os_error(const pj_error *err) {
    PyObject *error = pj_os_error(err->code, err->call);
    if (!error) {
        return;
    }
    PyObject *call = PyUnicode_DecodeFSDefault(err->call); /* it may name a path */
    if (call && PyObject_SetAttrString(error, "call", call) == 0) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(call);
    Py_DECREF(error);
}

PyObject *pj_raise(pj_state *state, const pj_error *err) {
    switch (err->kind) {
    case PJ_E_OS:
        set_os_error(err);
        break;
    case PJ_E_UNSUPPORTED:
        PyErr_SetString(state->unsupported, err->call);
        break;
    case PJ_E_CLOSED:
        PyErr_SetString(state->closed_error, "the job is closed");
        break;
    }
    return NULL;
}
