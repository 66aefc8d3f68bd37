"""The documentation site: `sphinx-build -W -n docs OUTPUT`, with the installed pyjob (tests/docs does so)."""

from __future__ import annotations

import re

import pyjob

project = "pyjob"
author = "the pyjob authors"
version = release = pyjob.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {"description": "Job Objects for every platform", "page_width": "1100px"}
html_copy_source = False
exclude_patterns = ["_build"]
myst_heading_anchors = 3

default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# What is not pyjob's own is not looked up, so that the site builds without a network.
nitpick_ignore_regex = [(r"py:.*", r"(?!pyjob\.).*")]

_TERM = re.compile(r"(\S+) {2,}(\S.*)$")


def terms(app: object, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """The lists in docstrings, a word and its meaning a line, become definitions."""
    made: list[str] = []
    inside = False
    for line in lines:
        start = _TERM.match(line)
        if start:
            made += ["", f"``{start.group(1)}``", f"    {start.group(2)}"]
            inside = True
        elif inside and line.startswith("  "):
            made.append(f"    {line.strip()}")
        else:
            inside = False
            made.append(line)
    lines[:] = made


def setup(app: object) -> None:
    app.connect("autodoc-process-docstring", terms)  # type: ignore[attr-defined]
