/* pyjob._native: the binding of the mechanism in csrc/{core,posix,linux,darwin,freebsd,win}.
 *
 * Read this first. Job is in job.c (its life) and job_ops.c (its operations), its start of programs in spawn_posix.c or
 * spawn_win.c, Process in process.c; state.h has what they share. */
#include "state.h"

#include <string.h>

static PyObject *probe_by(const char *name, const char *guard) {
    for (const pj_backend *const *at = pj_backends; *at; at++) {
        if (strcmp((*at)->name, name) == 0) {
            pj_probe found = {0};
            PJ_UNLOCKED((*at)->probe(guard, &found));
            PyObject *why = PyUnicode_DecodeUTF8(found.why, (Py_ssize_t)strlen(found.why), "replace");
            PyObject *help = PyUnicode_DecodeUTF8(found.help, (Py_ssize_t)strlen(found.help), "replace");
            return Py_BuildValue("(OINN)", found.available ? Py_True : Py_False, found.guarantees, why, help);
        }
    }
    return PyErr_Format(PyExc_ValueError, "unknown backend: '%s'", name);
}

static PyObject *probe(PyObject *module, PyObject *args) {
    const char *name;
    PyObject *guard;
    (void)module;
    if (!PyArg_ParseTuple(args, "sO&", &name, PyUnicode_FSConverter, &guard)) {
        return NULL;
    }
    PyObject *result = probe_by(name, PyBytes_AsString(guard));
    Py_DECREF(guard);
    return result;
}

static void note_fork(pj_state *state) {
    atomic_store(&state->pid, pj_process_self());
    atomic_fetch_add(&state->forks, 1);
    pj_platform_forked(state->platform);
}

unsigned pj_forks(pj_state *state) {
    if (atomic_load(&state->pid) != pj_process_self()) {
        note_fork(state);
    }
    return atomic_load(&state->forks);
}

static PyObject *forked(PyObject *module, PyObject *unused) {
    (void)unused;
    note_fork(PyModule_GetState(module));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"probe", probe, METH_VARARGS, NULL},
    {"forked", forked, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* In the order of the contract's table. */
static bool add_guarantees(PyObject *module) {
    static const struct {
        const char *name;
        unsigned bit;
    } table[] = {
        {"inherited", PJ_INHERITED},
        {"escape_proof", PJ_ESCAPE_PROOF},
        {"dies_with_owner", PJ_DIES_WITH_OWNER},
        {"atomic_kill", PJ_ATOMIC_KILL},
        {"own_child", PJ_OWN_CHILD},
        {"assign", PJ_ASSIGN},
        {"named", PJ_NAMED},
        {"complete_list", PJ_COMPLETE_LIST},
        {"pinned", PJ_PINNED},
    };
    PyObject *names = PyDict_New();
    bool ok = names != NULL;
    for (size_t at = 0; ok && at < sizeof table / sizeof *table; at++) {
        PyObject *bit = PyLong_FromUnsignedLong(table[at].bit);
        ok = bit && PyDict_SetItemString(names, table[at].name, bit) == 0;
        Py_XDECREF(bit);
    }
    ok = ok && PyModule_AddObjectRef(module, "GUARANTEES", names) == 0;
    Py_XDECREF(names);
    return ok;
}

static bool add_backends(PyObject *module) {
    PyObject *list = PyList_New(0);
    bool ok = list != NULL;
    for (const pj_backend *const *at = pj_backends; ok && *at; at++) {
        PyObject *name = PyUnicode_FromString((*at)->name);
        ok = name && PyList_Append(list, name) == 0;
        Py_XDECREF(name);
    }
    PyObject *tuple = ok ? PyList_AsTuple(list) : NULL;
    ok = tuple && PyModule_AddObjectRef(module, "BACKENDS", tuple) == 0;
    Py_XDECREF(tuple);
    Py_XDECREF(list);
    return ok;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddObjectRef(module, name, type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static bool add_spawn(PyTypeObject *type) {
    for (PyMethodDef *def = pj_spawn_methods; def->ml_name; def++) {
        PyObject *method = PyDescr_NewMethod(type, def);
        bool ok = method && PyObject_SetAttrString((PyObject *)type, def->ml_name, method) == 0;
        Py_XDECREF(method);
        if (!ok) {
            return false;
        }
    }
    return true;
}

static PyObject *add_exception(PyObject *module, const char *name, const char *full) {
    PyObject *exception = PyErr_NewException(full, NULL, NULL);
    if (exception && PyModule_AddObjectRef(module, name, exception) < 0) {
        Py_CLEAR(exception);
    }
    return exception;
}

/* os.register_at_fork(after_in_child=module.forked), where the system can fork. */
static bool watch_forks(PyObject *module) {
    PyObject *os = PyImport_ImportModule("os");
    if (!os) {
        return false;
    }
    bool ok = true;
    PyObject *registered = PyObject_GetAttrString(os, "register_at_fork");
    if (!registered) {
        PyErr_Clear();
    } else {
        PyObject *hook = PyObject_GetAttrString(module, "forked");
        PyObject *none = PyTuple_New(0);
        PyObject *kwargs = hook && none ? Py_BuildValue("{sO}", "after_in_child", hook) : NULL;
        PyObject *result = kwargs ? PyObject_Call(registered, none, kwargs) : NULL;
        ok = result != NULL;
        Py_XDECREF(result);
        Py_XDECREF(kwargs);
        Py_XDECREF(none);
        Py_XDECREF(hook);
        Py_DECREF(registered);
    }
    Py_DECREF(os);
    return ok;
}

static int execute(PyObject *module) {
    pj_state *state = PyModule_GetState(module);
    atomic_init(&state->forks, 0);
    atomic_init(&state->pid, pj_process_self());
    state->platform = pj_platform_new();
    if (!state->platform) {
        PyErr_NoMemory();
        return -1;
    }
    state->job_type = add_type(module, &pj_job_spec, "Job");
    state->process_type = state->job_type ? add_type(module, &pj_process_spec, "Process") : NULL;
    if (!state->process_type || !add_spawn(state->job_type)) {
        return -1;
    }
    state->closed_error = add_exception(module, "ClosedError", "pyjob._native.ClosedError");
    state->unsupported = add_exception(module, "UnsupportedReason", "pyjob._native.UnsupportedReason");
    if (!state->closed_error || !state->unsupported || !add_guarantees(module) || !add_backends(module)) {
        return -1;
    }
    return watch_forks(module) ? 0 : -1;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    pj_state *state = PyModule_GetState(module);
    Py_VISIT((PyObject *)state->job_type);
    Py_VISIT((PyObject *)state->process_type);
    Py_VISIT(state->closed_error);
    Py_VISIT(state->unsupported);
    return 0;
}

static int clear(PyObject *module) {
    pj_state *state = PyModule_GetState(module);
    Py_CLEAR(state->job_type);
    Py_CLEAR(state->process_type);
    Py_CLEAR(state->closed_error);
    Py_CLEAR(state->unsupported);
    return 0;
}

static void free_module(void *module) {
    pj_state *state = PyModule_GetState(module);
    clear(module);
    if (state->platform) {
        pj_platform_free(state->platform);
        state->platform = NULL;
    }
}

/* The slots' numbers are spelled out, since the floor of the limited API is older than their names: an own GIL per
 * interpreter is known to Python 3.12, running without a GIL to 3.13. Which of them a Python is told is decided when it
 * asks. */
#define SLOT_INTERPRETERS 3
#define SLOT_GIL 4
#define PER_INTERPRETER_GIL ((void *)2)
#define GIL_NOT_USED ((void *)1)

static PyModuleDef_Slot slots_310[] = {{Py_mod_exec, execute}, {0, NULL}};
static PyModuleDef_Slot slots_312[] = {{Py_mod_exec, execute}, {SLOT_INTERPRETERS, PER_INTERPRETER_GIL}, {0, NULL}};
static PyModuleDef_Slot slots_313[] = {
    {Py_mod_exec, execute}, {SLOT_INTERPRETERS, PER_INTERPRETER_GIL}, {SLOT_GIL, GIL_NOT_USED}, {0, NULL}};

#define DEFINITION(slots)                                                                                              \
    {PyModuleDef_HEAD_INIT, "pyjob._native", NULL, sizeof(pj_state), functions, slots, traverse, clear, free_module}

/* Python keeps its own notes in a definition: the one thing at file scope that is written to. */
static PyModuleDef for_310 = DEFINITION(slots_310), for_312 = DEFINITION(slots_312), for_313 = DEFINITION(slots_313);

PyMODINIT_FUNC PyInit__native(void) {
    int major = 0, minor = 0;
    for (const char *at = Py_GetVersion(); *at >= '0' && *at <= '9'; at++) {
        major = 10 * major + (*at - '0');
        if (at[1] == '.') {
            for (at += 2; *at >= '0' && *at <= '9'; at++) {
                minor = 10 * minor + (*at - '0');
            }
            break;
        }
    }
    int version = 100 * major + minor;
    return PyModuleDef_Init(version >= 313 ? &for_313 : version >= 312 ? &for_312 : &for_310);
}
