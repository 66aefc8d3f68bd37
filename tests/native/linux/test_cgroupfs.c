/* The parsers of csrc/linux/cgroupfs.c, on buffers of exactly their length, so that a sanitizer sees a byte too far.
 *
 *   cc -std=c11 -D_GNU_SOURCE -g -fsanitize=address,undefined -Icsrc -Itests/native/linux \
 *      tests/native/linux/test_cgroupfs.c csrc/linux/cgroupfs.c */
#include <string.h>

#include "check.h"
#include "linux/cgroupfs.h"

static char *exactly(const char *text) {
    size_t size = strlen(text);
    char *copy = malloc(size ? size : 1);
    CHECK(copy);
    memcpy(copy, text, size);
    return copy;
}

/* "": there is none. */
static void group(const char *text, const char *wanted) {
    const char *path = "untouched";
    size_t size = 9;
    char *copy = exactly(text);
    bool found = pj_parse_cgroup(copy, strlen(text), &path, &size);
    CHECK(found == (*wanted != '\0'));
    if (found) {
        CHECK(size == strlen(wanted) && memcmp(path, wanted, size) == 0);
    } else {
        CHECK(size == 9 && strcmp(path, "untouched") == 0);
    }
    free(copy);
}

static void cgroup_lines(void) {
    group("0::/\n", "/");
    group("0::/a/b\n", "/a/b");
    group("5:cpu,cpuacct:/x\n1:name=systemd:/y\n0::/z (deleted)\n", "/z (deleted)");
    group("5:cpu:/0::/a\n0::/b\n", "/b");
    group("10::/a\n", "");
    group("0:cpu:/a\n", "");
    group("0::a\n", "");
    group("0::/a", ""); /* cut off */
    group("0::", "");
    group("", "");
    group("\n\n0::/a\n", "/a");
}

static bool mount(const char *line, pj_mount *out) {
    char *copy = exactly(line);
    bool found = pj_parse_mount(copy, strlen(line), out);
    free(copy);
    return found;
}

static void mount_lines(void) {
    static pj_mount out;
    CHECK(mount("35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate", &out));
    CHECK(strcmp(out.root, "/") == 0 && strcmp(out.point, "/sys/fs/cgroup") == 0);
    CHECK(mount("35 25 0:30 /a\\040b /m\\011\\012\\134n rw - cgroup2 none rw", &out));
    CHECK(strcmp(out.root, "/a b") == 0 && strcmp(out.point, "/m\t\n\\n") == 0);
    CHECK(mount("1 2 0:3 / /x rw shared:1 master:2 propagate_from:3 unbindable - cgroup2 none rw", &out));
    CHECK(mount("1 2 0:3 / /x\\04 rw - cgroup2 none rw", &out) && strcmp(out.point, "/x\\04") == 0);
    strcpy(out.root, "untouched");
    CHECK(!mount("35 25 0:30 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu", &out));
    CHECK(!mount("35 25 0:30 / /x rw - tmpfs cgroup2 rw", &out));
    CHECK(!mount("35 25 0:30 / /x rw shared:1 cgroup2 none rw", &out)); /* no end of the tags */
    CHECK(!mount("35 25 0:30 / /x rw -", &out));
    CHECK(!mount("35 25 0:30 / /x rw - ", &out));
    CHECK(!mount("35 25 0:30 / /x\\000y rw - cgroup2 none rw", &out));
    CHECK(!mount("35 25  / /x rw - cgroup2 none rw", &out));
    CHECK(!mount("35", &out) && !mount("", &out) && !mount("    ", &out));
    static char line[3 * PJ_CGROUP_PATH] = "1 2 0:3 / /";
    memset(line + strlen(line), 'a', 2 * PJ_CGROUP_PATH);
    strcat(line, " rw - cgroup2 none rw");
    CHECK(!mount(line, &out));
    CHECK(strcmp(out.root, "untouched") == 0);
}

static bool place(const char *root, const char *point, const char *path, const char *wanted) {
    static pj_mount mount;
    char out[64];
    strcpy(mount.root, root);
    strcpy(mount.point, point);
    return pj_mount_place(&mount, path, out, sizeof out) && strcmp(out, wanted) == 0;
}

static void places(void) {
    CHECK(place("/", "/sys", "/", "/sys/"));
    CHECK(place("/", "/sys", "/a/b", "/sys/a/b"));
    CHECK(place("/", "/", "/a", "/a"));
    CHECK(place("/a", "/sys", "/a", "/sys"));
    CHECK(place("/a", "/sys", "/a/b", "/sys/b"));
    CHECK(!place("/a", "/sys", "/ab", "/sysb"));
    CHECK(!place("/a/b", "/sys", "/a", "/sys"));
    CHECK(!place("/", "/sys", "/../a", "/sys/../a")); /* outside our namespace */
    CHECK(!place("/", "/sys", "/a/..", "/sys/a/.."));
    CHECK(place("/", "/sys", "/a/..b/...", "/sys/a/..b/..."));
    CHECK(place("/..", "/sys", "/../a", "/sys/a")); /* mounted in the namespace around ours */
    CHECK(!place("/..", "/sys", "/", "/sys"));
    CHECK(place("/a/", "/sys", "/a", "/sys")); /* the kernel writes no such root; nothing beyond the path is read */
    CHECK(place("/a/", "/sys", "/a/b", "/sys/b"));
    CHECK(!place("/", "/sys", "/0123456789012345678901234567890123456789012345678901234567890", ""));
}

static void boundaries(void) {
    CHECK(pj_path_is_below("/a/b", 4, "/a/b"));
    CHECK(pj_path_is_below("/a/b/c", 6, "/a/b"));
    CHECK(!pj_path_is_below("/a/bc", 5, "/a/b"));
    CHECK(!pj_path_is_below("/a/b (deleted)", 14, "/a/b"));
    CHECK(!pj_path_is_below("/a", 2, "/a/b"));
    CHECK(pj_path_is_below("/a", 2, "/"));
}

int main(void) {
    RUN(cgroup_lines);
    RUN(mount_lines);
    RUN(places);
    RUN(boundaries);
    return 0;
}
