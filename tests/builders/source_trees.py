"""Syntax trees of the project's own files, each parsed once for all tests of a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def parse_source(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file; callers must not change it."""
    return ast.parse(path.read_bytes())
