"""The wheel that the bed makes, as installed in this version of CPython: what pip would have asked of it."""

from __future__ import annotations

import re
import sys
import sysconfig
from importlib.metadata import distribution

import pytest
from packaging.tags import parse_tag, sys_tags

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
VERSION = f"{sys.version_info[0]}{sys.version_info[1]}"
pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="made by tests/windows/bed.py")


def test_its_tag_is_one_of_this_python():
    told = re.findall(r"^Tag: (.+)$", distribution("pyjob-native").read_text("WHEEL") or "", re.M)
    assert [one for one in told if not parse_tag(one) & set(sys_tags())] == []
    assert len(told) == 1
    abi = rf"cp{VERSION}-cp{VERSION}t" if FREE_THREADED else r"cp3\d+-abi3"
    assert re.fullmatch(rf"{abi}-win_amd64", told[0])


def test_its_extension_asks_for_no_version_of_python():
    """Without a GIL, for this one alone."""
    (native,) = (one for one in distribution("pyjob-native").files or [] if one.suffix == ".pyd")
    data = native.read_binary()
    if FREE_THREADED:
        assert f"python{VERSION}t.dll".encode() in data
    else:
        assert b"python3.dll" in data
        assert re.findall(rb"(?i)python3\d+\.dll", data) == []


@pytest.mark.skipif(not FREE_THREADED, reason="has a GIL")
def test_it_brings_no_gil_back():
    assert "pyjob._native" in sys.modules
    assert not sys._is_gil_enabled()


def test_its_files_are_those_that_were_built():
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    files = [one for one in distribution("pyjob-native").files or [] if one.hash]
    assert len(files) > 10
    for one in files:
        assert urlsafe_b64encode(sha256(one.read_binary()).digest()).decode().rstrip("=") == one.hash.value
