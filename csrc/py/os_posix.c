#include "state.h"

#include <errno.h>
#include <string.h>

PyObject *pj_os_error(int code, const char *call) {
    PyObject *text = PyUnicode_FromFormat("%s (%s)", strerror(code), call);
    return text ? PyObject_CallFunction(PyExc_OSError, "iN", code, text) : NULL;
}

PyObject *pj_from_status(int status) {
    return PyLong_FromLong(status);
}

bool pj_is_nobody(const pj_error *err) {
    return err->kind == PJ_E_OS && err->code == ESRCH;
}

bool pj_is_interrupt(const pj_error *err) {
    return err->kind == PJ_E_OS && err->code == EINTR;
}
