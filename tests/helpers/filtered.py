"""`filtered.py COMMAND…` runs a command whose clone3(2) and pidfd_open(2) are refused with ENOSYS, as by an old
kernel or a
container's seccomp profile. PYJOB_TEST_REFUSE=clone3 refuses one alone."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NUMBERS = {"clone3": 435, "pidfd_open": 434}  # the same on every architecture
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def refuse(numbers: list[int]) -> None:
    code = [struct.pack("HBBI", LOAD, 0, 0, 0)]
    for place, number in enumerate(numbers):
        code.append(struct.pack("HBBI", EQUAL, len(numbers) - place, 0, number))
    code.append(struct.pack("HBBI", RETURN, 0, 0, RET_ALLOW))
    code.append(struct.pack("HBBI", RETURN, 0, 0, RET_ERRNO | errno.ENOSYS))
    buffer = ctypes.create_string_buffer(b"".join(code))
    program = Program(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    chosen = os.environ.get("PYJOB_TEST_REFUSE", ",".join(NUMBERS)).split(",")
    refuse([NUMBERS[one] for one in chosen])
    os.execvp(sys.argv[1], sys.argv[1:])
