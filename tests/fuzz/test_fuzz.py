"""Every parser of the C core, under a coverage-guided fuzzer: over its corpus once, then for PYJOB_FUZZ_SECONDS (5) on.

An input that was found is left in the message in base64: put it into corpus/NAME/, and it is tried ever after.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.native import SOURCE, compile, run_apart
from helpers.under_test import STRICT

HERE = Path(__file__).resolve().parent
SECONDS = int(os.environ.get("PYJOB_FUZZ_SECONDS") or 5)
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror"]
FUZZER = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
SOURCES = {
    "stat": ["linux/procfs.c", "posix/clock.c"],
    "ids": ["linux/procfs.c", "posix/clock.c"],
    "cgroup": [f"linux/{one}.c" for one in ("cgroupfs", "pidref", "procfs")] + ["posix/clock.c"],
    "wire": ["linux/protocol.c"],
    "number": ["linux/protocol.c"],
    "status": ["linux/tracer.c", "core/pids.c"],
    "naming": ["linux/naming.c"],
    "event": [f"linux/{one}.c" for one in ("sweep", "stage", "procfs", "pidref")] + ["posix/clock.c", "core/pids.c"],
}

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parsers of Linux's files"),
    pytest.mark.skipif(not (SOURCE / "csrc").is_dir(), reason="no sources here (PYJOB_SOURCE)"),
    pytest.mark.tool("clang"),
    pytest.mark.timeout(300 + 2 * SECONDS),
]


def build(target: Path, *sources: Path) -> Path:
    compile(target, f"-I{HERE}", *FUZZER, *sources, compiler="clang", flags=FLAGS)
    return target


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    empty = folder / "empty.c"
    empty.write_text(
        "int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return data && size ? 0 : 0; }\n"
    )
    command = ["clang", *FUZZER, str(empty), "-o", str(folder / "empty")]
    if subprocess.run(command, capture_output=True).returncode:
        (pytest.fail if STRICT else pytest.skip)("clang has no fuzzer here (Debian: libclang-rt-dev)")
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built:
            sources = [SOURCE / "csrc" / one for one in SOURCES[name]]
            built[name] = build(folder / name, HERE / f"fuzz_{name}.c", *sources)
        return built[name]

    return get


def run(program: Path, folder: Path, *options: str | Path) -> None:
    limits = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"]
    done = run_apart(program, *limits, f"-artifact_prefix={folder}/found-", *options, seconds=250 + SECONDS)
    found = [base64.b64encode(one.read_bytes()).decode() for one in folder.glob("found-*")]
    assert done.returncode == 0, f"{done.stdout[-5000:]}\nby the input, in base64: {found}"


@pytest.mark.parametrize("name", SOURCES)
def test_corpus(name: str, harness: Callable[[str], Path], folder: Path) -> None:
    run(harness(name), folder, *sorted((HERE / "corpus" / name).iterdir()))


@pytest.mark.parametrize("name", SOURCES)
def test_parser(name: str, harness: Callable[[str], Path], folder: Path) -> None:
    fresh = folder / "corpus"
    fresh.mkdir()
    run(harness(name), folder, f"-max_total_time={SECONDS}", fresh, HERE / "corpus" / name)


def test_every_harness_is_run() -> None:
    assert {one.stem for one in HERE.glob("fuzz_*.c")} == {f"fuzz_{name}" for name in SOURCES}
    assert all(any((HERE / "corpus" / name).iterdir()) for name in SOURCES)


def test_every_parser_has_a_harness() -> None:
    headers = "".join(one.read_text() for one in (SOURCE / "csrc/linux").glob("*.h"))
    parsers = set(re.findall(r"\b(pj_parse_\w+|pj_read_ids|pj_event|pj_\w+_decode)\(", headers))
    called = "".join(one.read_text() for one in HERE.glob("fuzz_*.c"))
    assert len(parsers) >= 10
    assert {one for one in parsers if f"{one}(" not in called} == set()


def test_the_fuzzer_finds(harness: Callable[[str], Path], folder: Path) -> None:
    """A fault behind a condition that only coverage leads to, and that only a sanitizer sees."""
    harness("number")
    source = folder / "fault.c"
    source.write_text(
        '#include "fuzz.h"\n'
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {\n"
        "    const volatile uint8_t *end = data + size;\n"
        "    return size > 2 && data[0] == 'p' && data[1] == 'j' && data[2] == '(' ? 0 * *end : 0;\n}\n"
    )
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        run(build(folder / "fault", source), folder, "-max_total_time=60")
