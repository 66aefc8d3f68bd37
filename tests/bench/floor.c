/*
 * floor CGROUP: the least that ends all processes of a cgroup. Writes cgroup.kill, polls cgroup.events until
 * `populated 0`, and prints the nanoseconds that this took.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* 1, 0, or -1 with errno. Reading is also what arms the next poll(). */
static int populated(int events) {
    char text[256];
    ssize_t length = pread(events, text, sizeof text - 1, 0);
    if (length < 0) {
        return -1;
    }
    text[length] = '\0';
    return strstr(text, "populated 1") != NULL;
}

static int end_all(void) {
    int kill = open("cgroup.kill", O_WRONLY | O_CLOEXEC);
    int events = open("cgroup.events", O_RDONLY | O_CLOEXEC);
    if (kill < 0 || events < 0 || write(kill, "1", 1) != 1) {
        return -1;
    }
    int some;
    while ((some = populated(events)) > 0) {
        struct pollfd changed = {events, POLLPRI, 0};
        if (poll(&changed, 1, -1) < 0) {
            return -1;
        }
    }
    return some;
}

int main(int count, char **arguments) {
    if (count != 2 || chdir(arguments[1]) != 0) {
        perror("floor");
        return 1;
    }
    long long begin = now();
    if (end_all() != 0) {
        perror("floor");
        return 1;
    }
    printf("%lld\n", now() - begin);
    return 0;
}
