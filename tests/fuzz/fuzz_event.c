/* csrc/linux/sweep.c: cgroup.events. Input: a key, NUL, the text. */
#include "fuzz.h"
#include "linux/sweep.h"

/* The same by another way: the first line that begins with the key and a blank. */
static int expected(const char *text, const char *key) {
    size_t size = strlen(key);
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        if (length > size && memcmp(text, key, size) == 0 && text[size] == ' ') {
            return text[size + 1] != '0';
        }
        text += length + (text[length] == '\n');
    }
    return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *key = fuzz_text(data, size);
    size_t length = strlen(key);
    char *text = length < size ? fuzz_text(data + length + 1, size - length - 1) : fuzz_text(data, 0);
    CHECK(strchr(key, '\n') || pj_event(text, key) == expected(text, key));
    (void)pj_event(text, key);
    free(text);
    free(key);
    return 0;
}
