/* Linked into the owner and into the guard. Only memory functions, strlen, malloc, free and errno. */
#include "linux/protocol.h"

#include <errno.h>
#include <string.h>

enum { MOST = 1 << 30 };

static size_t count_strings(char *const *strings, size_t *bytes) {
    size_t count = 0;
    for (; strings[count] != NULL; count++) {
        *bytes += strlen(strings[count]) + 1;
    }
    return count;
}

static char *put(char *to, const void *bytes, size_t size) {
    if (size > 0) {
        memcpy(to, bytes, size);
    }
    return to + size;
}

static char *put_strings(char *to, char *const *strings) {
    for (; *strings != NULL; strings++) {
        to = put(to, *strings, strlen(*strings) + 1);
    }
    return to;
}

static uint32_t spec_flags(const pj_spec *spec) {
    return (spec->close_fds ? PJ_WIRE_CLOSE_FDS : 0) | (spec->restore_signals ? PJ_WIRE_RESTORE_SIGNALS : 0) |
           (spec->start_new_session ? PJ_WIRE_NEW_SESSION : 0) | (spec->set_uid ? PJ_WIRE_SET_UID : 0) |
           (spec->set_gid ? PJ_WIRE_SET_GID : 0) | (spec->set_groups ? PJ_WIRE_SET_GROUPS : 0) |
           (spec->process_group >= 0 && !spec->start_new_session ? PJ_WIRE_IN_SESSION : 0) |
           (spec->cwd != NULL ? PJ_WIRE_CWD : 0);
}

pj_wire *pj_wire_encode(const pj_spec *spec, uint32_t flags, size_t *size) {
    size_t bytes = sizeof(pj_wire) + (spec->pass_count + spec->group_count) * sizeof(int32_t);
    bytes += spec->cwd != NULL ? strlen(spec->cwd) + 1 : 0;
    size_t executables = count_strings(spec->executables, &bytes);
    size_t arguments = count_strings(spec->argv, &bytes);
    size_t variables = count_strings(spec->envp, &bytes);
    if (bytes > MOST) {
        errno = E2BIG;
        return NULL;
    }
    pj_wire *wire = malloc(bytes);
    if (wire == NULL) {
        return NULL;
    }
    *wire = (pj_wire){
        .magic = PJ_WIRE_MAGIC,
        .size = (uint32_t)bytes,
        .flags = flags | spec_flags(spec),
        .executables = (uint32_t)executables,
        .arguments = (uint32_t)arguments,
        .variables = (uint32_t)variables,
        .passed = (uint32_t)spec->pass_count,
        .groups = (uint32_t)spec->group_count,
        .fds = {spec->p2cread, spec->p2cwrite, spec->c2pread, spec->c2pwrite, spec->errread, spec->errwrite},
        .process_group = spec->process_group,
        .umask = spec->umask,
        .uid = spec->uid,
        .gid = spec->gid,
    };
    char *to = put((char *)(wire + 1), spec->pass_fds, spec->pass_count * sizeof(int32_t));
    to = put(to, spec->groups, spec->group_count * sizeof(int32_t));
    if (spec->cwd != NULL) {
        to = put(to, spec->cwd, strlen(spec->cwd) + 1);
    }
    put_strings(put_strings(put_strings(to, spec->executables), spec->argv), spec->envp);
    *size = bytes;
    return wire;
}

/* The next `count` strings of what is left, as a list that ends with NULL. false: they do not end in time. */
static bool take_strings(char **from, const char *end, size_t count, char ***to) {
    for (size_t i = 0; i < count; i++) {
        char *after = memchr(*from, '\0', (size_t)(end - *from));
        if (after == NULL) {
            return false;
        }
        *(*to)++ = *from;
        *from = after + 1;
    }
    *(*to)++ = NULL;
    return true;
}

static void set_plain(const pj_wire *wire, pj_spec *out) {
    *out = (pj_spec){
        .p2cread = wire->fds[0],
        .p2cwrite = wire->fds[1],
        .c2pread = wire->fds[2],
        .c2pwrite = wire->fds[3],
        .errread = wire->fds[4],
        .errwrite = wire->fds[5],
        .close_fds = wire->flags & PJ_WIRE_CLOSE_FDS,
        .pass_fds = (const int *)(wire + 1),
        .pass_count = wire->passed,
        .restore_signals = wire->flags & PJ_WIRE_RESTORE_SIGNALS,
        .start_new_session = wire->flags & PJ_WIRE_NEW_SESSION,
        .process_group = wire->process_group,
        .set_gid = wire->flags & PJ_WIRE_SET_GID,
        .set_uid = wire->flags & PJ_WIRE_SET_UID,
        .set_groups = wire->flags & PJ_WIRE_SET_GROUPS,
        .gid = wire->gid,
        .uid = wire->uid,
        .groups = (const gid_t *)(wire + 1) + wire->passed,
        .group_count = wire->groups,
        .umask = wire->umask,
    };
}

int pj_wire_decode(const pj_wire *wire, size_t size, pj_spec *out, void **pointers) {
    if (size < sizeof *wire || size > MOST || wire->magic != PJ_WIRE_MAGIC || wire->size != size) {
        return EPROTO;
    }
    size_t numbers = ((size_t)wire->passed + wire->groups) * sizeof(int32_t);
    size_t cwd = wire->flags & PJ_WIRE_CWD ? 1 : 0;
    size_t strings = cwd + wire->executables + (size_t)wire->arguments + wire->variables;
    size_t left = size - sizeof *wire;
    if (numbers > left || strings > left - numbers || wire->executables == 0) { /* a string has at least its NUL */
        return EPROTO;
    }
    char **lists = malloc((strings + 4) * sizeof *lists), **to = lists;
    if (lists == NULL) {
        return ENOMEM;
    }
    pj_spec spec;
    set_plain(wire, &spec);
    char *from = (char *)(wire + 1) + numbers;
    const char *end = (const char *)wire + size;
    char **directory = to;
    bool whole = take_strings(&from, end, cwd, &to);
    spec.cwd = whole ? *directory : NULL;
    spec.executables = to;
    whole = whole && take_strings(&from, end, wire->executables, &to);
    spec.argv = to;
    whole = whole && take_strings(&from, end, wire->arguments, &to);
    spec.envp = to;
    whole = whole && take_strings(&from, end, wire->variables, &to);
    if (!whole || from != end) {
        free(lists);
        return EPROTO;
    }
    *out = spec;
    *pointers = lists;
    return 0;
}

bool pj_parse_number(const char *text, uint64_t most, uint64_t *out) {
    uint64_t number = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        unsigned digit = (unsigned)*text - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (number > most) {
        return false;
    }
    *out = number;
    return true;
}

void pj_format_number(uint64_t number, char text[21]) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    for (size_t i = 0; i < count; i++) {
        text[i] = digits[count - 1 - i];
    }
    text[count] = '\0';
}
