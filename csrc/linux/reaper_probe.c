/* Whether the reaper backend works here, and what it promises. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "linux/pidref.h"
#include "linux/procfs.h"
#include "linux/reaper.h"

static bool refuse(pj_probe *out, const char *why, const char *what, int code, const char *help) {
    snprintf(out->why, sizeof out->why, why, what, code != 0 ? strerror(code) : "");
    snprintf(out->help, sizeof out->help, "%s", help);
    return false;
}

static bool can_run(const char *guard, pj_probe *out) {
    int subreaper;
    if (access(guard, X_OK) < 0) {
        return refuse(out, "the guard %s cannot be executed: %s", guard, errno,
                      "install pyjob from its wheel, on a file system without noexec");
    }
    if (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) < 0) {
        return refuse(out, "prctl(%s): %s", "PR_GET_CHILD_SUBREAPER", errno,
                      "a kernel of 3.4 or later without a filter on prctl");
    }
    return true;
}

void pj_reaper_probe(const char *guard, pj_probe *out) {
    pj_error err;
    bool hides = false;
    *out = (pj_probe){.guarantees = PJ_INHERITED | PJ_ESCAPE_PROOF | PJ_DIES_WITH_OWNER};
    if (pj_procfs_hides(&hides, &err) < 0) {
        out->available = refuse(out, "%s: %s", err.call, err.code, "mount the /proc of this PID namespace");
        return;
    }
    out->guarantees |= hides ? 0 : PJ_COMPLETE_LIST;
    out->guarantees |= pj_pidfd_works() ? PJ_PINNED : 0;
    out->available = can_run(guard, out);
}
