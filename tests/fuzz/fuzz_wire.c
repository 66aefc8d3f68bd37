/* csrc/linux/protocol.c: the description of a program, as the guard gets it. The first bytes are made right where the
 * input asks for it: no fuzzer finds the length by itself. */
#include "fuzz.h"
#include "linux/protocol.h"

static void look_at(char *const *strings, uint32_t count, size_t *bytes) {
    for (uint32_t i = 0; i < count; i++) {
        *bytes += strlen(strings[i]) + 1;
    }
    CHECK(strings[count] == NULL);
}

static void try_one(const pj_wire *wire, size_t size) {
    pj_spec spec;
    void *pointers;
    if (pj_wire_decode(wire, size, &spec, &pointers) != 0) {
        return;
    }
    size_t bytes = sizeof *wire + (spec.pass_count + spec.group_count) * sizeof(int32_t);
    for (size_t i = 0; i < spec.pass_count; i++) {
        (void)*(const volatile int *)&spec.pass_fds[i];
    }
    for (size_t i = 0; i < spec.group_count; i++) {
        (void)*(const volatile gid_t *)&spec.groups[i];
    }
    bytes += spec.cwd != NULL ? strlen(spec.cwd) + 1 : 0;
    look_at(spec.executables, wire->executables, &bytes);
    look_at(spec.argv, wire->arguments, &bytes);
    look_at(spec.envp, wire->variables, &bytes);
    CHECK(bytes == size); /* all of it, and nothing twice */

    size_t length;
    pj_wire *again = pj_wire_encode(&spec, wire->flags, &length);
    CHECK(again != NULL && length == size);
    CHECK(memcmp(again + 1, wire + 1, size - sizeof *wire) == 0);
    again->flags = wire->flags; /* one of them is a conclusion from the others */
    CHECK(memcmp(again, wire, sizeof *wire) == 0);
    free(again);
    free(pointers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pj_wire *wire = malloc(size > 0 ? size : 1);
    CHECK(wire != NULL);
    if (size > 0) {
        memcpy(wire, data, size);
    }
    try_one(wire, size);
    if (size >= sizeof *wire) {
        wire->magic = PJ_WIRE_MAGIC;
        wire->size = (uint32_t)size;
        try_one(wire, size);
    }
    free(wire);
    return 0;
}
