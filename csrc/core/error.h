/* Errors are values: what failed and which call failed, captured at once. */
#ifndef PJ_CORE_ERROR_H
#define PJ_CORE_ERROR_H

typedef enum {
    PJ_E_OS,          /* code: errno, on Windows GetLastError(); call: the system call */
    PJ_E_UNSUPPORTED, /* call: one sentence that says why */
    PJ_E_CLOSED,      /* the job was closed meanwhile */
} pj_error_kind;

typedef struct {
    pj_error_kind kind;
    int code;
    const char *call; /* static storage */
} pj_error;

/* Both fill *err and return -1, so that a caller can write `return pj_fail(err, errno, "openat");`. */
static inline int pj_fail(pj_error *err, int code, const char *call) {
    *err = (pj_error){PJ_E_OS, code, call};
    return -1;
}

static inline int pj_unsupported(pj_error *err, const char *why) {
    *err = (pj_error){PJ_E_UNSUPPORTED, 0, why};
    return -1;
}

#endif
