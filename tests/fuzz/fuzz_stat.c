/* csrc/linux/procfs.c: a line of /proc/PID/stat, whose second field is whatever the process calls itself. */
#include "fuzz.h"
#include "linux/procfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pj_stat out, untouched;
    memset(&out, 0x5a, sizeof out);
    untouched = out;
    if (!pj_parse_stat((const char *)data, size, &out)) {
        CHECK(memcmp(&out, &untouched, sizeof out) == 0);
        return 0;
    }
    CHECK(out.pid >= 1 && out.pid <= INT32_MAX);
    CHECK(out.parent >= 0 && out.parent <= INT32_MAX);
    CHECK((out.state >= 'A' && out.state <= 'Z') || (out.state >= 'a' && out.state <= 'z'));

    /* Whatever the name is, it changes nothing. */
    const uint8_t *open = memchr(data, '(', size);
    const uint8_t *close = data + size;
    while (close > open && close[-1] != ')') {
        close--;
    }
    CHECK(open != NULL && close > open);
    size_t head = (size_t)(open - data) + 1, tail = size - (size_t)(close - data);
    char *other = malloc(head + 4 + tail);
    CHECK(other != NULL);
    memcpy(other, data, head);
    memcpy(other + head, ") S)", 4);
    memcpy(other + head + 4, close, tail);
    pj_stat same;
    CHECK(pj_parse_stat(other, head + 4 + tail, &same));
    CHECK(same.pid == out.pid && same.parent == out.parent && same.state == out.state && same.start == out.start);
    CHECK(same.group == out.group && same.session == out.session && same.threads == out.threads);
    CHECK(same.thread == out.thread && same.kernel == out.kernel && same.exit_code == out.exit_code);
    free(other);
    return 0;
}
