/* csrc/linux/naming.c: the names of owners' roots and the entries of named jobs. Input: either. */
#include "fuzz.h"
#include "linux/naming.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pj_entry entry;
    char *text = fuzz_text(data, size);
    pj_root_name name = {.another = 0x5a};
    if (pj_parse_root_name(text, &name)) {
        char again[PJ_ROOT_NAME];
        pj_format_root_name(&name, again);
        CHECK(strcmp(text, again) == 0);
        CHECK(name.pid <= INT32_MAX);
    } else {
        CHECK(name.another == 0x5a);
    }
    if (pj_parse_entry(text, &entry)) {
        char again[PJ_ENTRY_TEXT];
        CHECK(memchr(entry.owner, '\0', sizeof entry.owner) && memchr(entry.proc, '\0', sizeof entry.proc));
        CHECK(memchr(entry.where, '\0', sizeof entry.where));
        CHECK(pj_format_entry(&entry, again) == strlen(text) && strcmp(text, again) == 0);
    }
    free(text);
    return 0;
}
