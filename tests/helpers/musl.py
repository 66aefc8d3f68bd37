"""A CPython that no registry has as a binary: for musl, and without a GIL. Built from Debian's source package."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from helpers.wheels import call

SUITE, PACKAGE = "trixie", "python3.13"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SLOW_TO_COMPILE = ["_decimal", *(f"_codecs_{one}" for one in ("cn", "hk", "iso2022", "jp", "kr", "tw"))]
# Of the kernel's headers musl's compiler finds none; they do not differ between C libraries.
COMPILER = """#!/bin/sh
[ "$1" = --print-multiarch ] && echo {machine}-linux-musl && exit
exec musl-gcc "$@" -idirafter {headers}
"""


def fetch(folder: Path) -> Path:
    """By an apt with a state of its own: the machine's may know no sources, or those of another suite."""
    known = call("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", cwd=folder)
    debian = next(one for one in known.split() if one.endswith("/debian/"))
    state = folder / "apt"
    (state / "lists/partial").mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb-src [signed-by={KEYS}] {debian} {SUITE} main\n")
    options = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    call(*apt, "update", cwd=folder)
    call(*apt, "source", "--download-only", PACKAGE, cwd=folder)
    (packed,) = folder.glob("*.orig.tar.xz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    (source,) = folder.glob("Python-*")
    return source


def build_python(folder: Path) -> Path:
    source = fetch(folder)
    include, own = Path("/usr/include"), call("cc", "-print-multiarch", cwd=folder).strip()
    headers = folder / "headers"
    headers.mkdir()
    for name, target in {"linux": "linux", "asm-generic": "asm-generic", "asm": f"{own}/asm"}.items():
        (headers / name).symlink_to(include / target)
    compiler = folder / "compiler"
    compiler.write_text(COMPILER.format(machine=os.uname().machine, headers=headers))
    compiler.chmod(0o755)
    settings = ["--disable-gil", "--without-ensurepip", "--disable-test-modules", "--with-pkg-config=no"]
    settings += [f"CC={compiler}", "CFLAGS=-O1 -g0", *(f"py_cv_module_{one}=n/a" for one in SLOW_TO_COMPILE)]
    call("./configure", "-q", *settings, cwd=source)
    call("make", "-s", "-j2", cwd=source)
    return source / "python"
