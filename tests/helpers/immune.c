/* For one test: a setuid program that becomes root altogether, so that its unprivileged starter may not signal it.
 * Leaves by itself after 8 s. tests/run.py builds it as root, for the unprivileged runs only. */
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    int refused = setgroups(0, NULL) || setresgid(0, 0, 0) || setresuid(0, 0, 0);
    puts(refused ? "refused" : "immune");
    fflush(stdout);
    if (!refused) {
        alarm(8);
        for (;;) {
            pause();
        }
    }
    return 1;
}
