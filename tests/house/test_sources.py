"""The rules of the house for the C sources. Each is a function from a file's text and its place in csrc/ to the
breaches in it. It is held to every file, and to snippets in which it has to see one."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))
CSRC = SOURCE / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="no sources here (PYJOB_SOURCE)")

FILES = {one.relative_to(CSRC).as_posix(): one for one in sorted([*CSRC.rglob("*.c"), *CSRC.rglob("*.h")])}
MOST_IN_FUNCTION = 60
MOST_IN_FILE = 500

# Tables that CPython's API takes by pointers to non-const, and module definitions that it writes to.
PYTHON_TABLES = r"\b(PyMethodDef|PyMemberDef|PyGetSetDef|PyType_Slot|PyType_Spec|PyModuleDef_Slot|PyModuleDef)\b"
DIRECTIVE = re.compile(r"^[ \t]*#(?:.*\\\n)*.*", re.M)  # with the lines on which it goes on
ATTRIBUTE = re.compile(r"\b(?:_Atomic|_Alignas|__attribute__|__declspec)\s*\(")  # parentheses of no function


# ---- reading C


def no_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", _blank, text, flags=re.S)


def bare(text: str) -> str:
    """C without comments, strings and character constants, with its lines where they were."""
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", _blank, text, flags=re.S)


def _blank(match: re.Match[str]) -> str:
    found = match.group(0)
    return ("" if found.startswith("/") else '""') + "\n" * found.count("\n")


def code(text: str) -> str:
    """What is left of it without the lines of the preprocessor, attributes and the sizes of arrays."""
    text = DIRECTIVE.sub(lambda match: "\n" * match.group(0).count("\n"), bare(text))
    while found := ATTRIBUTE.search(text):
        inside = arguments_at(text, found.end())
        text = text[: found.start()] + "\n" * inside.count("\n") + text[found.end() + len(inside) + 1 :]
    return re.sub(r"\[[^\]]*\]", "[]", text)


def arguments_at(text: str, start: int) -> str:
    """What stands from here to the parenthesis that closes."""
    depth = 1
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    return text[start:]


def directives(text: str) -> list[tuple[int, str]]:
    """The lines of the preprocessor, each with its continuations, and their numbers."""
    found = DIRECTIVE.finditer(text)
    return [(line_of(text, one.start()), " ".join(one.group(0).replace("\\\n", " ").split())) for one in found]


def line_of(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def top_level(text: str) -> list[tuple[int, int, str]]:
    """The declarations and definitions of a file: first line, last line, text up to the body's brace or the
    semicolon."""
    found = []
    depth, start, head = 0, 0, ""
    for number, line in enumerate(code(text).split("\n"), 1):
        for character in line + "\n":
            if depth == 0 and not head.strip():
                start = number
            if character == "{":
                if depth == 0:
                    head += "{"
                depth += 1
            elif character == "}":
                depth -= 1
                if depth == 0 and is_function(head):
                    found.append((start, number, " ".join(head.split())))
                    head = ""
                elif depth == 0:
                    head += "}"
            elif character == ";" and depth == 0:
                found.append((start, number, " ".join(head.split())))
                head = ""
            elif depth == 0:
                head += character
    return found


def is_function(head: str) -> bool:
    return "(" in head and "=" not in head and not re.match(r"\s*(typedef\b|(struct|union|enum)( \w+)?\s*\{)", head)


def is_mutable(head: str) -> bool:
    """Whether a declaration makes a variable that can be written to."""
    if is_function(head) and "{" in head:
        return False
    declared = head.split("=")[0].strip()
    if re.match(r"(typedef|_Static_assert|static_assert|extern)\b", declared) or not declared:
        return False
    if re.match(r"(struct|union|enum)( \w+)?( \{\})?$", declared):
        return False  # a type, or its announcement
    if re.search(PYTHON_TABLES, declared):
        return False
    if "(" in declared and not re.match(r"[^(]*\(\s*\*", declared):
        return False  # a prototype
    if declared == "char **environ":
        return False  # POSIX's own name for what main() was given; the freestanding guard has to bring it
    # What is const is the thing itself, not what it points to.
    return not re.search(r"\bconst\b", declared.rsplit("*", 1)[-1])


# ---- the rules


def mutable_at_file_scope(text: str, place: str) -> list[str]:
    return [f"{first}: {head}" for first, _, head in top_level(text) if is_mutable(head)]


# What PyArg_ParseTupleAndKeywords() takes is not const; errno of the freestanding guard, which has one thread.
ALLOWED_STATICS = {"py": "static char *names[]", "guard": "static int value"}


def mutable_in_functions(text: str, place: str) -> list[str]:
    """A static in a function is a mutable file-scope variable that hides."""
    bad = []
    text = code(text)
    for found in re.finditer(r"\bstatic\b[^;={]*", text):
        before = text[: found.start()]
        declared = " ".join(found.group(0).split())
        hidden = before.count("{") > before.count("}") and is_mutable(declared)
        if hidden and declared != ALLOWED_STATICS.get(folder_of(place)):
            bad.append(f"{line_of(text, found.start())}: {declared}")
    return bad


def too_long(text: str, place: str) -> list[str]:
    lines = text.count("\n")
    return [f"{lines} lines"] * (lines > MOST_IN_FILE) + [
        f"{first}: {last - first + 1} lines: {head[:80]}"
        for first, last, head in top_level(text)
        if head.endswith("{") and last - first + 1 > MOST_IN_FUNCTION
    ]


def unguarded_header(text: str, place: str) -> list[str]:
    guarded = re.match(r"\s*#(ifndef PJ_|pragma once\n)", no_comments(text))
    return [] if guarded or not place.endswith(".h") else ["no guard"]


# Whom the files of a folder may include, beside themselves: the mechanism knows no binding, the core no platform.
KNOWS = {
    "core": set(),
    "posix": {"core"},
    "linux": {"core", "posix"},
    "bsd": {"core", "posix"},
    "darwin": {"core", "posix", "bsd"},
    "freebsd": {"core", "posix", "bsd"},
    "win": {"core"},
    "guard": {"core", "posix", "linux"},
    "py": {"core", "posix", "win"},
}


def foreign_includes(text: str, place: str) -> list[str]:
    """Files of ours, however they are written, and Python's."""
    folder = folder_of(place)
    bad = []
    for included in re.findall(r'^\s*#\s*include\s*["<]([^">]+)', no_comments(text), re.M):
        meant = {posixpath.normpath(one) for one in (included, f"{posixpath.dirname(place)}/{included}")}
        owners = {folder_of(one) for one in meant & set(FILES)}
        if not owners <= {folder} | KNOWS[folder] or (included.endswith("Python.h") and folder != "py"):
            bad.append(included)
    return bad


def folder_of(place: str) -> str:
    return place.split("/")[0]


PLATFORM = (
    r"\b(linux|__linux|__linux__|__gnu_linux__|unix|__unix|__unix__|__ANDROID__|__APPLE__|__MACH__|TARGET_OS_\w+"
    r"|__FreeBSD\w*|__NetBSD__|__OpenBSD__|__DragonFly__|_?WIN32|_?WIN64|__CYGWIN__|__sun|__sun__)\b"
)
# A platform has several compilers and C libraries: these may be told apart where all is that platform's.
TOOLS = {r"\b(_MSC_\w+|__MINGW\w+)": {"win"}, r"\b(__GLIBC_\w+|__UCLIBC__|__BIONIC__)": {"linux", "guard"}}


def platform_tests(text: str, place: str) -> list[str]:
    """Files are chosen in setup.py. Within linux/ a test for Linux would be as wrong: everything there is Linux."""
    elsewhere = [tool for tool, folders in TOOLS.items() if folder_of(place) not in folders]
    return [
        f"{number}: {line}"
        for number, line in directives(bare(text))
        if not re.match(r"# ?include", line) and any(re.search(one, line) for one in [PLATFORM, *elsewhere])
    ]


BORN_WITH = {
    "open": "O_CLOEXEC", "openat": "O_CLOEXEC", "open_by_handle_at": "O_CLOEXEC", "mkostemp": "O_CLOEXEC",
    "posix_openpt": "O_CLOEXEC", "pipe2": "O_CLOEXEC", "dup3": "O_CLOEXEC", "memfd_create": "MFD_CLOEXEC",
    "socket": "SOCK_CLOEXEC", "socketpair": "SOCK_CLOEXEC", "accept4": "SOCK_CLOEXEC", "recvmsg": "MSG_CMSG_CLOEXEC",
    "epoll_create1": "EPOLL_CLOEXEC", "signalfd": "SFD_CLOEXEC", "eventfd": "EFD_CLOEXEC",
    "timerfd_create": "TFD_CLOEXEC", "inotify_init1": "IN_CLOEXEC", "fanotify_init": "FAN_CLOEXEC",
}  # fmt: skip
NEVER = "pipe|epoll_create|accept|dup|dup2|creat|inotify_init|fopen|freopen|popen|tmpfile|mkstemp|openpty|forkpty"
FOR_THE_PROGRAM = {"posix/child.c": "dup2"}  # after fork: its standard streams


def inherited_descriptors(text: str, place: str) -> list[str]:
    """open(), pipe(), socket() and their kin with the flag; no later fcntl(), which a fork in another thread
    overtakes."""
    text = re.sub(r"\bsyscall\(SYS_(\w+),?", r"\1(", bare(text))
    bad = [f"{line_of(text, one.start())}: F_DUPFD" for one in re.finditer(r"\bF_DUPFD\b", text)]
    for found in re.finditer(rf"(?<![\w.>])({'|'.join(BORN_WITH)}|{NEVER})\(", text):
        call, arguments = found.group(1), arguments_at(text, found.end())
        born = call in BORN_WITH and re.search(rf"\b{BORN_WITH[call]}\b", arguments)
        if not born and call != FOR_THE_PROGRAM.get(place) and not is_declared(text, found.start()):
            bad.append(f"{line_of(text, found.start())}: {call}({arguments})")
    return bad


def is_declared(text: str, place: int) -> bool:
    """Whether a type stands before the name at this place."""
    return bool(re.search(r"\b(int|long|ssize_t|FILE)\s+\**$", text[text.rfind("\n", 0, place) + 1 : place]))


def unsafe_after_fork(text: str, place: str) -> list[str]:
    """csrc/posix/child.c says at its head what may be called there, and why."""
    if place != "posix/child.c":
        return []
    told = text.startswith("/*") and "async-signal-safe" in text.split("#include")[0]
    unsafe = r"(?<![\w.>])(malloc|calloc|realloc|free|printf|fprintf|snprintf|syslog|pthread_(?!sigmask)\w+|exit)\("
    return ["not told"] * (not told) + re.findall(unsafe, bare(text))


RULES = [
    mutable_at_file_scope, mutable_in_functions, too_long, unguarded_header, foreign_includes, platform_tests,
    inherited_descriptors, unsafe_after_fork,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_breach(rule):
    bad = [f"{place}:{breach}" for place, file in FILES.items() for breach in rule(file.read_text(), place)]
    assert not bad, "\n".join(bad)


def test_there_is_something_to_look_at():
    assert len(FILES) > 20
    assert {folder_of(one) for one in FILES} == set(KNOWS)


# ---- a rule that sees nothing proves nothing: of each text here every line is a breach, or none

BREACHES = {
    (mutable_at_file_scope, "core/any.c"): """
        static int counter;
        static int table[] = {1, 2};
        static int sized[sizeof(int)];
        static _Atomic(int) n;
        static __attribute__((unused)) int n;
        static __attribute__((aligned(sizeof(int)))) int n = 1;
        static const char *last;
        static int (*hook)(void);
        static int (*hooks[])(void) = {a, b};
        struct { int a; } shared;
        union { int a; } shared;
        enum color chosen;
        _Thread_local int own = sizeof(int);
    """,
    (mutable_in_functions, "linux/any.c"): """
        void f(void) { static int hidden; }
        void f(void) { static const char *last; }
        void f(void) { static unsigned n = sizeof(int); }
        void f(void) { if (a) { static _Atomic(int) n; } }
        void f(void) { static struct { int a; } kept; }
        void f(void) { static char *names[] = {"a"}; }
    """,
    (platform_tests, "core/any.c"): """
        #ifdef __linux__
        #if defined(linux)
        # if !defined(_WIN32)
        #if 1 && \\
            defined(__APPLE__)
        #ifdef _MSC_VER
        #elif defined(__MINGW32__)
        #ifdef __GLIBC__
        #if __GLIBC_PREREQ(2, 34)
        #define HERE __FreeBSD_version
    """,
    (platform_tests, "linux/any.c"): "#ifdef __linux__\n#ifdef _MSC_VER",
    (platform_tests, "win/any.c"): "#ifdef _WIN32\n#ifdef __GLIBC__",
    (foreign_includes, "core/any.c"): """
        #include "linux/tree.h"
        #include <linux/tree.h>
        #include "../linux/tree.h"
        # include "../core/../win/job.h"
        #include "posix/spec.h"
        #include <Python.h>
    """,
    (foreign_includes, "linux/any.c"): '#include "py/state.h"\n#include "../py/state.h"\n#include "Python.h"',
    (inherited_descriptors, "linux/any.c"): """
        fd = open(path, O_RDONLY);
        fd = above(open(path, O_RDONLY)), other = open(path, O_CLOEXEC);
        fd = open(path, flags);
        fd = fcntl(fd, F_DUPFD, 3);
        fd = accept4(fd, NULL, NULL, 0);
        fd = inotify_init1(0);
        fd = dup3(a, b, 0);
        fd = dup2(a, b);
        fd = dup(a);
        fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        fd = recvmsg(fd, &message, 0);
        fd = syscall(SYS_memfd_create, "", 0);
        #define OPENED open(path, 0)
    """,
    (unsafe_after_fork, "posix/child.c"): "/* async-signal-safe */ malloc(1)\nnothing_told()",
    (unguarded_header, "core/any.h"): "int f(void);",
    (too_long, "core/any.c"): "int f(int a) {" + "\n" * MOST_IN_FUNCTION + "}",
}

FINE = {
    (mutable_at_file_scope, "core/any.c"): """
        #define LONG(x) \\
            do { static int n; } while (0)
        static const int fine = 1;
        static const char *const names[] = {"a", "b"};
        static const _Atomic(int) never;
        static int (*const hook)(void) = f;
        typedef struct { int a; } thing;
        struct thing { int a; };
        enum { A = 1, B };
        extern int elsewhere;
        int declared(int);
        static __attribute__((noinline)) int made(int a, /* { */ char b) {
            int local = '{';
        }
    """,
    (mutable_in_functions, "py/any.c"): """
        static int at_file_scope;
        void f(void) { static char *names[] = {"a"}; }
        void f(void) { static const char *const last = "static int n"; }
        void f(void) { static const struct { int a; } rows[] = {{1}}; }
    """,
    (platform_tests, "linux/any.c"): '#include <linux/futex.h>\n#ifdef __GLIBC__\n#error "not __linux__"',
    (platform_tests, "win/any.c"): "#ifdef _MSC_VER\n#ifndef _WIN32_WINNT",
    (foreign_includes, "linux/any.c"): """
        #include <linux/futex.h>
        #include "core/error.h"
        /*
        #include "win/job.h"
        */
    """,
    (inherited_descriptors, "linux/any.c"): """
        int open(const char *path, int flags);
        int a = open(f(path), O_RDONLY | O_CLOEXEC), b = fcntl(a, F_DUPFD_CLOEXEC, 3);
        job->open(path, how.dup(a));
    """,
}


def ids(case):
    return f"{case[0].__name__}-{case[1]}"


@pytest.mark.parametrize("case", BREACHES, ids=ids)
def test_every_breach_is_seen(case):
    rule, place = case
    text = BREACHES[case].strip()
    every = [text] if rule is too_long else re.split(r"(?<!\\)\n", text)  # but for a line that goes on
    assert [one for one in every if not rule(one.strip(), place)] == []


@pytest.mark.parametrize("case", FINE, ids=ids)
def test_what_is_fine_is_let_be(case):
    rule, place = case
    assert rule(FINE[case], place) == []


def test_a_long_file_is_seen():
    assert too_long("\n" * (MOST_IN_FILE + 1), "core/any.c") == [f"{MOST_IN_FILE + 1} lines"]
