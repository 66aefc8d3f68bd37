/* csrc/linux/tracer.c: a number of /proc/PID/status, whose first line is whatever the process calls itself. Input: what
 * stands before the number, NUL, the text. */
#include "fuzz.h"
#include "linux/tracer.h"

/* The same by another way. */
static pj_pid expected(const char *name, const char *text) {
    const char *found = strstr(text, name);
    if (found == NULL) {
        return 0;
    }
    found += strlen(name);
    size_t digits = strspn(found, "0123456789"), zeros = strspn(found, "0");
    long long number = digits - zeros <= 10 ? strtoll(found, NULL, 10) : INT64_MAX;
    return digits > 0 && number <= INT32_MAX ? number : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *name = fuzz_text(data, size);
    size_t before = strlen(name), length = before < size ? size - before - 1 : 0;
    char *exact = malloc(length + 1), *text = fuzz_text(data + size - length, length);
    CHECK(exact != NULL);
    memcpy(exact + 1, text, length); /* at the end of its block, for a byte too far */
    pj_pid found = pj_parse_status(name, exact + 1, length);
    CHECK(found >= 0 && found <= INT32_MAX);
    CHECK(strlen(text) != length || found == expected(name, text));
    free(exact);
    free(text);
    free(name);
    return 0;
}
