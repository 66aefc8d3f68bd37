/* csrc/linux/cgroupfs.c: /proc/PID/cgroup, mountinfo, and the directory that both lead to. Input: a line of mountinfo,
 * NUL, a text of /proc/PID/cgroup. */
#include "fuzz.h"
#include "linux/cgroupfs.h"

static void place(const pj_mount *mount, const char *path) {
    char whole[PJ_CGROUP_PATH], out[PJ_CGROUP_PATH];
    if (!pj_mount_place(mount, path, whole, sizeof whole)) {
        return;
    }
    size_t length = strlen(whole);
    CHECK(length < sizeof whole);
    CHECK(strncmp(whole, mount->point, strlen(mount->point)) == 0);
    memset(out, 0x5a, sizeof out);
    CHECK(!pj_mount_place(mount, path, out, length)); /* one byte too few */
    CHECK(out[length] == 0x5a);
    CHECK(pj_mount_place(mount, path, out, length + 1) && strcmp(whole, out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t first = end != NULL ? (size_t)(end - data) : size;
    size_t second = end != NULL ? size - first - 1 : 0;
    char *line = malloc(first + 1), *text = malloc(second + 1);
    CHECK(line != NULL && text != NULL);
    /* At the end of their blocks, for a byte too far. */
    char *from = line + 1, *to = text + 1;
    memcpy(from, data, first);
    memcpy(to, data + size - second, second);

    static pj_mount mount;
    const char *path = NULL;
    size_t length = 0;
    bool mounted = pj_parse_mount(from, first, &mount);
    bool grouped = pj_parse_cgroup(to, second, &path, &length);
    if (mounted) {
        CHECK(memchr(mount.root, '\0', sizeof mount.root) && memchr(mount.point, '\0', sizeof mount.point));
    }
    if (grouped) {
        CHECK(path >= to && length <= second && path + length <= to + second);
        CHECK(memchr(path, '\n', length) == NULL);
        char *name = fuzz_text((const uint8_t *)path, length);
        CHECK(strlen(name) != length || pj_path_is_below(path, length, name));
        if (mounted) {
            place(&mount, name);
            (void)pj_path_is_below(path, length, mount.root);
        }
        free(name);
    }
    free(line);
    free(text);
    return 0;
}
