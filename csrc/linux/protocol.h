/* What owner and guard say to each other: a SOCK_SEQPACKET pair, of which the guard has one end.
 *
 *   owner                                             guard
 *   pj_wire, in messages of up to PJ_WIRE_CHUNK  -->
 *                                                <--  PJ_STARTED
 *                                                <--  PJ_EXITED, when the program has ended; its zombie is kept
 *                                                <--  PJ_EMPTY, when nobody but it is left, if that comes later
 *   PJ_COLLECTED                                 -->  reaps it
 *   PJ_LEAVE, PJ_RELEASE, PJ_END                 -->
 *
 * The program is described in the socket and not in a memfd: RLIMIT_FSIZE limits what may be written to the latter.
 * Nothing is concluded from the end of the stream but that nobody will collect: a forked child of the owner may hold a
 * copy of its end long after the owner's death, and execve() of the owner closes it. The owner is watched by its pidfd.
 */
#ifndef PJ_LINUX_PROTOCOL_H
#define PJ_LINUX_PROTOCOL_H

#include "posix/spec.h"

enum {
    PJ_STARTED = 1, /* first: PID, second: errno of the child or 0, third: its PJ_STAGE_…, or the guard's PID */
    PJ_REFUSED,     /* there is no child; first: errno, second: PJ_CALL_… */
    PJ_EXITED,      /* first: as Popen.returncode; second: 1: nobody else is left */
    PJ_EMPTY,       /* the tree has ended, and nobody can come into it any more */
    PJ_COLLECTED,   /* the owner has the exit status: the PID may be used again */
    PJ_LEAVE,       /* nobody will collect; end when the tree has ended */
    PJ_RELEASE,     /* guard no longer: the death of the owner ends nobody */
    PJ_END,         /* end your tree now */
};

enum { PJ_CALL_RECV, PJ_CALL_MMAP, PJ_CALL_VFORK, PJ_CALL_SUBREAPER };

typedef struct {
    int32_t kind, first, second, third;
} pj_message;

enum {
    PJ_WIRE_MAGIC = 0x706a0001,
    PJ_WIRE_CHUNK = 32768, /* well below the smallest send buffer of a socket */
};

enum { /* pj_wire.flags */
       PJ_WIRE_CLOSE_FDS = 1 << 0,
       PJ_WIRE_RESTORE_SIGNALS = 1 << 1,
       PJ_WIRE_NEW_SESSION = 1 << 2,
       PJ_WIRE_SET_UID = 1 << 3,
       PJ_WIRE_SET_GID = 1 << 4,
       PJ_WIRE_SET_GROUPS = 1 << 5,
       PJ_WIRE_CWD = 1 << 6,
       PJ_WIRE_KEEP = 1 << 7,       /* not kill_on_close */
       PJ_WIRE_IN_SESSION = 1 << 8, /* the guard stays in the caller's session: guard/reaper.c says why */
       PJ_WIRE_CLOEXEC = 1 << 9,    /* and << 10, << 11: p2cread, c2pwrite, errwrite were close-on-exec in the owner */
};

/* The head of a program's description. After it: the passed descriptors, the groups (both 32 bits wide), and strings
 * that each end with NUL: the directory, if any, the executables, the arguments, the environment. */
typedef struct {
    uint32_t magic, size; /* of all, this head included */
    uint32_t flags;
    uint32_t executables, arguments, variables, passed, groups; /* how many */
    int32_t fds[6]; /* p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite */
    int32_t process_group, umask;
    uint32_t uid, gid;
} pj_wire;

/* One block from malloc(), *size bytes of it; NULL with errno ENOMEM, or E2BIG beyond 1 GiB. */
pj_wire *pj_wire_encode(const pj_spec *spec, uint32_t flags, size_t *size);

/* A function of the bytes alone: whatever they are, no byte outside of them is read. *out then points into `wire` and
 * into *pointers, a block from malloc(). 0, EPROTO (no such description) or ENOMEM. */
int pj_wire_decode(const pj_wire *wire, size_t size, pj_spec *out, void **pointers);

/* Decimal digits and nothing else. false: not a number, or above `most`. */
bool pj_parse_number(const char *text, uint64_t most, uint64_t *out);
void pj_format_number(uint64_t number, char text[21]);

#endif
