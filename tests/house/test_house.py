"""The rules of the house that a machine can check; over the sources, of which tests/run.py names a copy in
PYJOB_SOURCE."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))
CSRC = SOURCE / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="no sources here (PYJOB_SOURCE)")

C_FILES = sorted([*CSRC.rglob("*.c"), *CSRC.rglob("*.h")])
PY_FILES = sorted([*(SOURCE / "pyjob").glob("*.py"), *(SOURCE / "tests").rglob("*.py")])
MOST_IN_FUNCTION = 60
MOST_IN_FILE = 500

# Tables that CPython's API takes by pointers to non-const, and module definitions that it writes to.
PYTHON_TABLES = r"\b(PyMethodDef|PyMemberDef|PyGetSetDef|PyType_Slot|PyType_Spec|PyModuleDef_Slot|PyModuleDef)\b"
PLATFORM = re.compile(
    r"\b(__linux__|__APPLE__|__MACH__|__FreeBSD__|__NetBSD__|__OpenBSD__|_WIN32|_WIN64|__CYGWIN__|__unix__|__ANDROID__|__sun)\b"
)


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def bare(text: str) -> str:
    """C without comments, strings and character constants, with its lines where they were."""

    def blank(match: re.Match[str]) -> str:
        found = match.group(0)
        return "\n" * found.count("\n") if found.startswith("/") else '""' + "\n" * found.count("\n")

    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def top_level(text: str) -> list[tuple[int, int, str]]:
    """The declarations and definitions of a file: first line, last line, text up to the body's brace or the
    semicolon."""
    found = []
    depth, start, head = 0, 0, ""
    lines = _joined(bare(text))
    for number, line in enumerate(lines, 1):
        for character in line + "\n":
            if depth == 0 and not head.strip():
                start = number
            if character == "{":
                if depth == 0:
                    head += "{"
                depth += 1
            elif character == "}":
                depth -= 1
                if depth == 0 and _is_function(head):
                    found.append((start, number, head))
                    head = ""
                elif depth == 0:
                    head += "}"
            elif character == ";" and depth == 0:
                found.append((start, number, head))
                head = ""
            elif depth == 0:
                head += character
    return found


def _joined(text: str) -> list[str]:
    """The lines, those of the preprocessor and their continuations emptied."""
    lines = text.split("\n")
    inside = False
    for place, line in enumerate(lines):
        if inside or line.lstrip().startswith("#"):
            inside = line.endswith("\\")
            lines[place] = ""
    return lines


def _is_function(head: str) -> bool:
    return (
        "(" in head and "=" not in head.split("(")[0] and not re.match(r"\s*(typedef|enum|struct \w+\s*\{|union)", head)
    )


def test_there_is_something_to_look_at():
    assert len(C_FILES) > 20 and len(PY_FILES) > 20


def test_the_scanner_itself():
    """A house rule whose scanner sees nothing proves nothing."""
    text = """
#define LONG(x) \\
    do { } while (0)
static int counter;
static const int fine = 1;
static const char *const names[] = {"a", "b"};
static int table[] = {1, 2};
typedef struct { int a; } thing;
enum { A = 1, B };
int declared(int);
static int made(int a, /* { */ char b) {
    static int hidden;
    return '{' + a + b;
}
"""
    heads = [" ".join(head.split()) for _, _, head in top_level(text)]
    assert heads == [
        "static int counter",
        "static const int fine = 1",
        "static const char *const names[] = {}",
        "static int table[] = {}",
        "typedef struct {} thing",
        "enum {}",
        "int declared(int)",
        "static int made(int a, char b) {",
    ]
    assert [(head, _mutable(head)) for head in heads if _mutable(head)] == [
        ("static int counter", True),
        ("static int table[] = {}", True),
    ]


def _mutable(head: str) -> bool:
    """Whether a top-level declaration makes a variable that can be written to."""
    head = " ".join(head.split())
    if _is_function(head) and "{" in head:
        return False
    declared = head.split("=")[0].strip()
    if re.match(r"(typedef|enum|_Static_assert|static_assert|extern|union)\b", declared) or not declared:
        return False
    if re.match(r"struct( \w+)?( \{.*\})?$", declared):
        return False  # a type, or its announcement
    if re.search(PYTHON_TABLES, declared):
        return False
    if "(" in declared and not re.match(r"[^(]*\(\s*\*", declared):
        return False  # a prototype
    if declared == "char **environ":
        return False  # POSIX's own name for what main() was given; the freestanding guard has to bring it
    # What is const is the thing itself, not what it points to.
    return not re.search(r"\bconst\b", declared.rsplit("*", 1)[-1] if "*" in declared else declared)


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_no_mutable_file_scope_variables(path):
    bad = [
        f"{name(path)}:{first}: {' '.join(head.split())}"
        for first, _, head in top_level(path.read_text())
        if _mutable(head)
    ]
    assert not bad, bad


# What PyArg_ParseTupleAndKeywords() takes is not const; errno of the freestanding guard, which has one thread.
ALLOWED_STATICS = [("py", ["static", "char", "*names[]"]), ("guard", ["static", "int", "value;"])]


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_no_hidden_static_variables(path):
    """A static in a function is a mutable file-scope variable that hides."""
    bad = []
    for number, line in enumerate(_joined(bare(path.read_text())), 1):
        if not re.match(r"\s+static\s", line) or re.search(r"\bconst\b|\(", line) or re.search(PYTHON_TABLES, line):
            continue
        if (path.relative_to(CSRC).parts[0], line.split("=")[0].split()) not in ALLOWED_STATICS:
            bad.append(f"{name(path)}:{number}: {line.strip()}")
    assert not bad, bad


@pytest.mark.parametrize("path", sorted((SOURCE / "pyjob").glob("*.py")), ids=name)
def test_the_packages_files_are_short(path):
    assert path.read_text().count("\n") <= MOST_IN_FILE


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_functions_and_files_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= MOST_IN_FILE, f"{name(path)} has {text.count(chr(10))} lines"
    long = [
        f"{name(path)}:{first}: {last - first + 1} lines: {' '.join(head.split())[:80]}"
        for first, last, head in top_level(text)
        if head.endswith("{") and _is_function(head) and last - first + 1 > MOST_IN_FUNCTION
    ]
    assert not long, long


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_headers_are_guarded(path):
    if path.suffix == ".h":
        lines = [line for line in _no_comments(path).splitlines() if line.strip()]
        assert lines[0].startswith("#ifndef PJ_") or lines[0] == "#pragma once", f"{name(path)} has no guard"


def _no_comments(path: Path) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)


def test_python_h_only_in_the_binding():
    bad = [name(one) for one in C_FILES if "Python.h" in _no_comments(one) and one.relative_to(CSRC).parts[0] != "py"]
    assert not bad, bad


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


def test_layers_know_each_other_in_one_direction():
    assert {one.relative_to(CSRC).parts[0] for one in C_FILES} == set(KNOWS)
    bad = []
    for one in C_FILES:
        folder = one.relative_to(CSRC).parts[0]
        for included in re.findall(r'^#include "(\w+)/', one.read_text(), re.M):
            if included not in {folder} | KNOWS[folder]:
                bad.append(f"{name(one)} includes {included}/")
    assert not bad, bad


TOP = {"pyproject.toml", "setup.py", "MANIFEST.in", "csrc", "pyjob", "tests", "docs"} | {
    f"{word}.md" for word in ("README", "CHANGELOG", "CONTRIBUTING")
}


def test_the_top_level_is_fixed():
    made = {"build", "dist", "pyjob_native.egg-info", "PKG-INFO", "setup.cfg"}
    found = {one.name for one in SOURCE.iterdir() if not one.name.startswith(".")} - made
    assert found - TOP == {"LICENSE"}
    assert TOP - found == set()


def test_no_platform_ifdef_outside_its_folder():
    """Files are chosen in setup.py. Within linux/ a test for Linux would be as wrong: everything there is Linux."""
    bad = []
    for one in C_FILES:
        for number, line in enumerate(_no_comments(one).splitlines(), 1):
            if line.lstrip().startswith("#") and PLATFORM.search(line):
                bad.append(f"{name(one)}:{number}: {line.strip()}")
    assert not bad, bad


def test_descriptors_are_close_on_exec_from_birth():
    """open(), pipe(), socket() and their kin with the flag; no later fcntl(), which a fork in another thread
    overtakes."""
    need = {
        "open": "O_CLOEXEC", "openat": "O_CLOEXEC", "pipe2": "O_CLOEXEC", "socket": "SOCK_CLOEXEC",
        "socketpair": "SOCK_CLOEXEC",
        "memfd_create": "MFD_CLOEXEC", "epoll_create1": "EPOLL_CLOEXEC", "signalfd": "SFD_CLOEXEC",
        "eventfd": "EFD_CLOEXEC",
    }  # fmt: skip
    never = ("pipe", "epoll_create", "accept", "dup", "creat", "inotify_init", "fopen")
    bad = []
    for one in C_FILES:
        if one.relative_to(CSRC).parts[0] == "win":
            continue
        text = bare(one.read_text())
        for call, flag in need.items():
            for found in re.finditer(rf"(?<![\w.>]){call}\(([^;]*);", text):
                # A wrapper that is given its flags by its callers is looked at there.
                if flag not in found.group(1) and "flags" not in found.group(1) and not _declares(text, found.start()):
                    bad.append(f"{name(one)}:{text.count(chr(10), 0, found.start()) + 1}: {found.group(0)[:100]}")
        for call in never:
            for found in re.finditer(rf"(?<![\w.>]){call}\(", text):
                if not _declares(text, found.start()):
                    bad.append(f"{name(one)}:{text.count(chr(10), 0, found.start()) + 1}: {call}()")
    assert not bad, "\n".join(bad)


def _declares(text: str, place: int) -> bool:
    """Whether the name at this place is being declared (a type stands before it) or is part of a longer word."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return bool(re.search(r"\b(int|long|static|ssize_t|inline|FILE)\s+\**$", line)) or "#" in line


def test_after_fork_the_contract_is_stated():
    """csrc/posix/child.c says at its head what may be called there, and why."""
    text = (CSRC / "posix" / "child.c").read_text()
    assert text.startswith("/*") and "async-signal-safe" in text[: text.index("#include")]
    forbidden = re.findall(
        r"(?<![\w.>])(malloc|calloc|realloc|free|printf|fprintf|snprintf|syslog|pthread_(?!sigmask)\w+|exit)\(",
        bare(text),
    )
    assert not forbidden, forbidden


def operations() -> list[str]:
    """The functions in csrc/core/backend.h's table."""
    text = bare((CSRC / "core" / "backend.h").read_text())
    table = text[text.index("struct pj_backend {") :]
    return re.findall(r"\(\*(\w+)\)\(", table[: table.index("};")])


# How the public operation that stands for a function of the table is called.
PUBLIC = {
    "probe": "backends(", "create": ".job(", "open": "Job.open(", "spawn": ".popen(",
    "prepare": "preexec_fn", "exec": "preexec_fn", "finish": "preexec_fn", "join": "preexec_fn",
    "assign": ".assign(",
    "assign_self": ".assign_self(", "list": ".pids(", "contains": " in job", "signal": ".send_signal(",
    "walk": ".members(", "walk_end": ".members(",
    "kill": ".kill(",
    "wait": ".wait(", "collect": ".wait(", "signal_program": ".terminate(", "release": ".release(",
    "watch": ".guarantees", "close": ".close(", "abandon": "os.fork(",
}  # fmt: skip


def test_every_backend_operation_has_a_conformance_test():
    assert set(operations()) == set(PUBLIC), "a new operation needs a line in PUBLIC and its tests"
    text = "".join(one.read_text() for one in (SOURCE / "tests" / "conformance").glob("test_*.py"))
    assert not [one for one, call in PUBLIC.items() if call not in text]


def test_every_public_name_is_tested():
    import pyjob

    text = "".join(one.read_text() for one in (SOURCE / "tests").rglob("test_*.py"))
    assert not [one for one in pyjob.__all__ if not re.search(rf"\b{one}\b", text)]


def test_every_section_on_security_has_its_tests():
    sections = re.findall(r"^## (.+)$", (SOURCE / "docs" / "security.md").read_text(), re.M)
    files = ("platform/linux/test_security.py", "windows/test_job_object.py")
    text = "".join((SOURCE / "tests" / one).read_text() for one in files)
    tested = {
        head for head, part in re.findall(r"^# ---- (.+)\n((?:(?!# ----).*\n)*)", text, re.M) if "def test_" in part
    }
    assert len(sections) > 6
    assert [one for one in sections if one not in tested] == []


def test_the_tests_run_against_the_installed_wheel():
    import pyjob

    here = Path(pyjob.__file__).resolve().parent
    assert not (here.parent / "setup.py").exists(), f"{here} is a checkout"
    assert "site-packages" in here.parts or "dist-packages" in here.parts


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by that; where folders run together (Windows) it would stop at the second."""
    names = Counter(one.name for one in (SOURCE / "tests").rglob("test_*.py"))
    assert [one for one, times in names.items() if times > 1] == []


def test_no_test_sleeps_long():
    """A fixed sleep is no synchronisation: it is too short on a loaded machine and too long on a quick one."""
    bad = []
    for one in (SOURCE / "tests").rglob("*.py"):
        if one.parent.name in ("bench", "helpers"):
            continue
        for number, line in enumerate(one.read_text().splitlines(), 1):
            found = re.match(r"\s*time\.sleep\(([\d.]+)\)\s*$", line)
            if found and 1 < float(found.group(1)) < 60:
                bad.append(f"{name(one)}:{number}: {line.strip()}")
    assert not bad, bad


def test_no_machine_of_ours_in_the_files():
    """Neither a path of the machine this was written on nor the address of a package mirror."""
    suspects = re.compile(r"/(work|root)/[a-z]|/tmp/[kw]/|https?://(?!(?:[\w.-]+\.)?(?:github\.com|python\.org|pypi\.org|"
                          r"kernel\.org|microsoft\.com|readthedocs\.io|man7\.org|debian\.org|freebsd\.org|apple\.com|"
                          r"opensource\.org|schemastore\.org|keepachangelog\.com|semver\.org|www\.\w+\.\w+|json\.schemastore\.org|"
                          r"img\.shields\.io|packaging\.python\.org|squidfunk\.github\.io|localhost))")  # fmt: skip
    bad = []
    for folder in ("csrc", "pyjob", "tests", ".github", ".ci", "docs"):
        for one in (SOURCE / folder).rglob("*"):
            if one.is_file() and one.suffix in (
                ".c",
                ".h",
                ".py",
                ".pyi",
                ".md",
                ".toml",
                ".yml",
                ".yaml",
                ".txt",
                ".cfg",
                "",
            ):
                if one.name == "test_house.py" or "_cache" in str(one):
                    continue
                text = one.read_text(errors="replace")
                bad += [f"{name(one)}: {found.group(0)}" for found in suspects.finditer(text)]
    assert not bad, bad
