#include "state.h"

#include <windows.h>

/* OSError(errno, text, filename, winerror): Python derives errno and the subclass from winerror. */
PyObject *pj_os_error(int code, const char *call) {
    wchar_t message[200];
    DWORD length = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, (DWORD)code, 0,
                                  message, 200, NULL);
    while (length > 0 && message[length - 1] <= L' ') {
        length--;
    }
    PyObject *system = length > 0 ? PyUnicode_FromWideChar(message, (Py_ssize_t)length)
                                  : PyUnicode_FromFormat("Windows Error 0x%x", (unsigned)code);
    PyObject *text = system ? PyUnicode_FromFormat("%U (%s)", system, call) : NULL;
    Py_XDECREF(system);
    return text ? PyObject_CallFunction(PyExc_OSError, "iNOi", 0, text, Py_None, code) : NULL;
}

bool pj_is_nobody(const pj_error *err) {
    return err->kind == PJ_E_OS && err->code == ERROR_INVALID_PARAMETER;
}

bool pj_is_interrupt(const pj_error *err) {
    (void)err;
    return false;
}
