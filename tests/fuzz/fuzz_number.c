/* csrc/linux/protocol.c: the numbers among the guard's arguments. Input: 8 bytes of the largest allowed, the text. */
#include "fuzz.h"
#include "linux/protocol.h"

/* The same by another way: false beyond 64 bits, too. */
static bool expected(const char *text, uint64_t most, uint64_t *out) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0') {
        return false;
    }
    text += strspn(text, "0");
    if (strlen(text) > 20) {
        return false;
    }
    unsigned __int128 number = 0;
    for (; *text != '\0'; text++) {
        number = number * 10 + (unsigned)(*text - '0');
    }
    *out = (uint64_t)number;
    return number <= most;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t most, wanted, found = 0x5a;
    if (size < sizeof most) {
        return 0;
    }
    memcpy(&most, data, sizeof most);
    char *text = fuzz_text(data + sizeof most, size - sizeof most);
    if (!pj_parse_number(text, most, &found)) {
        CHECK(found == 0x5a && !expected(text, most, &wanted));
    } else {
        char again[21];
        CHECK(expected(text, most, &wanted) && found == wanted && found <= most);
        pj_format_number(found, again);
        const char *plain = text + strspn(text, "0");
        CHECK(strcmp(again, *plain != '\0' ? plain : "0") == 0);
    }
    free(text);
    return 0;
}
