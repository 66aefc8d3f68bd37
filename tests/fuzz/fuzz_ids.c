/* csrc/linux/procfs.c: the numbers of cgroup.procs and of /proc/PID/task/TID/children, read in pieces. */
#include "fuzz.h"
#include "linux/procfs.h"

#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 4096 };

typedef struct {
    pid_t found[MOST];
    size_t count;
} list;

static int take(pid_t pid, void *arg) {
    list *all = arg;
    CHECK(pid > 0);
    all->found[all->count++] = pid;
    return all->count == MOST;
}

/* The same by another way: what a terminated run of up to nine digits says; longer ones are nothing that a kernel
 * writes. */
static void check(const list *all, const char *text) {
    size_t at = 0;
    while (*text != '\0') {
        size_t digits = strspn(text, "0123456789");
        if (digits > 9) {
            return;
        }
        if (digits > 0 && text[digits] != '\0' && strtol(text, NULL, 10) > 0) {
            CHECK(at < all->count && all->found[at] == strtol(text, NULL, 10));
            at++;
        }
        text += digits > 0 ? digits : 1;
    }
    CHECK(at == all->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static list all;
    int fd = memfd_create("ids", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
    all.count = 0;
    CHECK(pj_read_ids(fd, take, &all) >= 0);
    close(fd);
    char *text = fuzz_text(data, size);
    if (strlen(text) == size) {
        check(&all, text);
    }
    free(text);
    return 0;
}
