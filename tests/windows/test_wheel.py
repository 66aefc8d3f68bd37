"""The one wheel that the bed makes, as installed in this version of CPython: what pip would have asked of it."""

from __future__ import annotations

import re
import sys
from importlib.metadata import distribution

import pytest
from packaging.tags import parse_tag, sys_tags

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="made by tests/windows/bed.py")


def test_its_tag_is_one_of_this_python():
    told = re.findall(r"^Tag: (.+)$", distribution("pyjob-native").read_text("WHEEL") or "", re.M)
    assert [one for one in told if not parse_tag(one) & set(sys_tags())] == []
    assert len(told) == 1
    assert re.fullmatch(r"cp3\d+-abi3-win_amd64", told[0])


def test_its_extension_asks_for_no_version_of_python():
    (native,) = (one for one in distribution("pyjob-native").files or [] if one.suffix == ".pyd")
    data = native.read_binary()
    assert b"python3.dll" in data
    assert re.findall(rb"(?i)python3\d+\.dll", data) == []


def test_its_files_are_those_that_were_built():
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    files = [one for one in distribution("pyjob-native").files or [] if one.hash]
    assert len(files) > 10
    for one in files:
        assert urlsafe_b64encode(sha256(one.read_binary()).digest()).decode().rstrip("=") == one.hash.value
