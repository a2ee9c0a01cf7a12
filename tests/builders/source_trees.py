"""Syntax trees of the project's own files, each parsed once for all tests of a process."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def parse_source(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file; callers must not change it."""
    # A million nodes that stay: while they are made, and later, the garbage collector would visit them again and again,
    # which takes twice the time of the parser.
    gc.disable()
    try:
        return ast.parse(path.read_bytes())
    finally:
        gc.freeze()
        gc.enable()
