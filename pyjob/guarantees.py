"""What each backend promises, which of them are available here, and which one a new job takes."""

from __future__ import annotations

import errno
import sys

from . import _guard, _native
from .errors import UnsupportedError, translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Backend", "Guarantees", "backends"]

KNOWN_BACKENDS = ("job-object", "cgroup", "reaper", "process-group")

# What to try, in this order. On Linux never process-group unasked: `setsid` leaves it.
_LADDER = tuple(name for name in _native.BACKENDS if sys.platform != "linux" or name != "process-group")

# Errors with which a place may refuse a backend for good (EAGAIN: so many control groups), as the probe then tells; all
# others (out of descriptors, out of memory) are raised.
_REFUSALS = frozenset(
    getattr(errno, name, None) for name in (
        "EACCES", "EAGAIN", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "ENOEXEC", "ENOSYS", "ENODEV", "EOPNOTSUPP", "EBUSY",
    )
)  # fmt: skip


class Guarantees:
    """Which promises hold. Immutable; compares by value. A plain class, because `dataclasses` doubles the import time.

    inherited          what a member starts is a member from its first instruction
    escape_proof       no fork, `setsid`, double fork, closed descriptor or changed environment leaves the job
    dies_with_owner    the members end when the owner ends, however it ends
    atomic_kill        `kill()` ends all members at one instant; without it, it converges
    own_child          a started program is the caller's child (`os.waitpid`, `getppid`)
    assign             running processes can be moved in
    named              the job can have a name, and be opened by it
    complete_list      `pids()` misses nobody
    pinned             signals go to pinned identities (pidfd, process handle), never to bare PIDs
    """

    __slots__ = (  # noqa: RUF023  # the order of the table
        "inherited",
        "escape_proof",
        "dies_with_owner",
        "atomic_kill",
        "own_child",
        "assign",
        "named",
        "complete_list",
        "pinned",
    )

    inherited: bool
    escape_proof: bool
    dies_with_owner: bool
    atomic_kill: bool
    own_child: bool
    assign: bool
    named: bool
    complete_list: bool
    pinned: bool

    def __init__(self, granted: Iterable[str] = ()) -> None:
        names = frozenset(granted)
        unknown = names.difference(self.__slots__)
        if unknown:
            raise ValueError(f"unknown guarantee: {', '.join(sorted(unknown))}")
        for name in self.__slots__:
            object.__setattr__(self, name, name in names)

    def __iter__(self) -> Iterator[str]:
        """The names of those that hold, in the order of the table."""
        return (name for name in self.__slots__ if getattr(self, name))

    def __contains__(self, name: object) -> bool:
        return name in self.__slots__ and bool(getattr(self, str(name)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"guarantees cannot be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"guarantees cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return frozenset(self) == frozenset(other) if isinstance(other, Guarantees) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __reduce__(self) -> tuple[type[Guarantees], tuple[tuple[str, ...]]]:
        return type(self), (tuple(self),)

    def __repr__(self) -> str:
        return f"Guarantees({', '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)})"


class Backend:
    """One row of `backends()`.

    name         as for `Job(backend=)`
    available    whether a job can be made of it here and now
    guarantees   what it promises on this machine
    why          it is not available, or ""
    help         what would help, or ""
    """

    __slots__ = ("available", "guarantees", "help", "name", "why")

    name: str
    available: bool
    guarantees: Guarantees
    why: str
    help: str

    def __init__(self, name: str, available: bool, guarantees: Guarantees, why: str, help: str) -> None:
        self.name = name
        self.available = available
        self.guarantees = guarantees
        self.why = why
        self.help = help

    def __repr__(self) -> str:
        state = "available" if self.available else f"not available: {self.why}"
        return f"<pyjob.Backend {self.name}, {state}>"


def backends() -> list[Backend]:
    """The backends of this platform in the order in which `Job()` tries them. Probes anew: the place can change.

    Raises nothing for a backend that is missing: its row says why. Looks at the caller's group (cgroups(7)), the guard
    (execve(2)) and what the kernel knows (pidfd_open(2)).
    """
    found: list[Backend] = []
    for name in _native.BACKENDS:
        available, bits, why, help = _native.probe(name, _guard.PATH)
        found.append(Backend(name, available, from_bits(bits), why, help))
    return found


def from_bits(bits: int) -> Guarantees:
    return Guarantees(name for name, bit in _native.GUARANTEES.items() if bits & bit)


def bits_of(backend: str) -> int:
    """What a backend promises on this machine, whether or not it is available."""
    return _native.probe(backend, _guard.PATH)[1]


def required_bits(require: Iterable[object]) -> int:
    """Checks `require=` and turns it into bits."""
    if isinstance(require, (str, bytes)):
        raise TypeError(f"require takes several names, as in require=({require!r},)")
    wanted = 0
    for name in require:
        if not isinstance(name, str):
            raise TypeError(f"a guarantee is named by a str, not {type(name).__name__}")
        bit = _native.GUARANTEES.get(name)
        if bit is None:
            raise ValueError(f"unknown guarantee {name!r}; there are {', '.join(_native.GUARANTEES)}")
        wanted |= bit
    return wanted


def check_backend(name: object) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a backend is named by a str, not {type(name).__name__}")
    if name not in KNOWN_BACKENDS:
        raise ValueError(f"unknown backend {name!r}; there are {', '.join(KNOWN_BACKENDS)}")
    return name


def ladder(backend: str | None) -> tuple[str, ...]:
    if backend is None:
        return _LADDER
    return (backend,) if backend in _native.BACKENDS else ()


def create(backend: str | None, wanted: int, name: str | None, keep: bool) -> tuple[_native.Job, int | None]:
    """Makes a native job without a parent by the first backend that can, and tells its bits if they were looked at.

    A backend is tried first and asked after, when it refused: probing before each start would cost more than the start.
    """
    for candidate in ladder(backend):
        bits = bits_of(candidate) if wanted else None
        if bits is not None and wanted & ~bits:
            continue
        try:
            return _native.Job.create(candidate, None, name, keep, _guard.PATH), bits
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _REFUSALS or _native.probe(candidate, _guard.PATH)[0]:
                raise
        except _native.UnsupportedReason:
            if _native.probe(candidate, _guard.PATH)[0]:
                with translated:
                    raise
    raise unsupported(backend, wanted)


def unsupported(backend: str | None, wanted: int) -> UnsupportedError:
    """Tells for each backend that could have been taken why it was not, and what would help."""
    if backend is not None and backend not in _native.BACKENDS:
        return UnsupportedError(f"the backend {backend} does not exist on this platform ({sys.platform})")
    promised = list(from_bits(wanted))
    if promised:
        text = f"no available backend promises {' and '.join(promised)}"
    else:
        text = "no backend is available" if backend is None else f"the backend {backend} is not available"
    for row in backends():
        if row.name not in ladder(backend):
            continue
        if row.available:
            lacks = " and ".join(name for name in promised if name not in row.guarantees)
            reasons = [f"does not promise {lacks}" if lacks else "refused"]
        else:
            reasons = [row.why or "not available", row.help]
        text += f"; {row.name}: {', '.join(filter(None, reasons))}"
    return UnsupportedError(text)
