#include "linux/naming.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Digits, as printf() writes them: no sign, no blank, no zero in front. */
static bool take_number(const char **at, uint64_t most, uint64_t *out) {
    const char *from = *at;
    uint64_t number = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        unsigned digit = (unsigned)(**at - '0');
        if (number > (most - digit) / 10) {
            return false;
        }
        number = 10 * number + digit;
    }
    *out = number;
    return *at > from && (*from != '0' || *at == from + 1);
}

static bool take(const char **at, const char *text) {
    size_t size = strlen(text);
    bool there = strncmp(*at, text, size) == 0;
    *at += there ? size : 0;
    return there;
}

bool pj_parse_root_name(const char *name, pj_root_name *out) {
    pj_root_name found = {0};
    if (!take(&name, "pyjob-") || !take_number(&name, UINT64_MAX, &found.namespace) || !take(&name, "-") ||
        !take_number(&name, INT32_MAX, &found.pid) || !take(&name, "-") ||
        !take_number(&name, UINT64_MAX, &found.start)) {
        return false;
    }
    if (take(&name, ".") && (!take_number(&name, UINT64_MAX, &found.another) || found.another == 0)) {
        return false;
    }
    if (*name != '\0') {
        return false;
    }
    *out = found;
    return true;
}

void pj_format_root_name(const pj_root_name *name, char out[PJ_ROOT_NAME]) {
    int size =
        snprintf(out, PJ_ROOT_NAME, "pyjob-%" PRIu64 "-%" PRIu64 "-%" PRIu64, name->namespace, name->pid, name->start);
    if (name->another > 0) {
        snprintf(out + size, (size_t)(PJ_ROOT_NAME - size), ".%" PRIu64, name->another);
    }
}

static bool take_line(const char **at, char end, char *out, size_t room) {
    const char *stop = strchr(*at, end);
    size_t size = stop ? (size_t)(stop - *at) : room;
    if (size >= room) {
        return false;
    }
    memcpy(out, *at, size);
    out[size] = '\0';
    *at = stop + 1;
    return true;
}

bool pj_parse_entry(const char *text, pj_entry *out) {
    return take_number(&text, UINT64_MAX, &out->inode) && take(&text, "\n") &&
           take_number(&text, UINT64_MAX, &out->namespace) && take(&text, "\n") &&
           take_line(&text, '\n', out->owner, sizeof out->owner) &&
           take_line(&text, '\n', out->proc, sizeof out->proc) && out->proc[0] == '/' &&
           take_line(&text, '\0', out->where, sizeof out->where) && out->where[0] == '/';
}

size_t pj_format_entry(const pj_entry *entry, char out[PJ_ENTRY_TEXT]) {
    return (size_t)snprintf(out, PJ_ENTRY_TEXT, "%" PRIu64 "\n%" PRIu64 "\n%s\n%s\n%s", entry->inode, entry->namespace,
                            entry->owner, entry->proc, entry->where);
}
