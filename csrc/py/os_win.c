#include "state.h"

#include "win/handle.h"

/* In Windows' words less the full stop, as Python has it. OSError(errno, text, filename, winerror): Python derives
 * errno and the subclass from winerror, but for a process that is no more, which Windows has no error of its own for.
 */
PyObject *pj_os_error(int code, const char *call) {
    PyObject *type = code == PJ_E_GONE ? PyExc_ProcessLookupError : PyExc_OSError;
    int winerror = code == PJ_E_GONE ? ERROR_INVALID_PARAMETER : code;
    wchar_t message[200];
    DWORD length = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, (DWORD)winerror, 0,
                                  message, 200, NULL);
    while (length > 0 && (message[length - 1] <= L' ' || message[length - 1] == L'.')) {
        length--;
    }
    PyObject *system = length > 0 ? PyUnicode_FromWideChar(message, (Py_ssize_t)length)
                                  : PyUnicode_FromFormat("Windows Error 0x%x", (unsigned)winerror);
    PyObject *text = system ? PyUnicode_FromFormat("%U (%s)", system, call) : NULL;
    Py_XDECREF(system);
    return text ? PyObject_CallFunction(type, "iNOi", 0, text, Py_None, winerror) : NULL;
}

/* An exit code is a DWORD there: 0xC0000005 is not negative. */
PyObject *pj_from_status(int status) {
    return PyLong_FromUnsignedLong((unsigned)status);
}

bool pj_is_nobody(const pj_error *err) {
    return err->kind == PJ_E_OS && err->code == PJ_E_GONE;
}

bool pj_is_interrupt(const pj_error *err) {
    (void)err;
    return false;
}
