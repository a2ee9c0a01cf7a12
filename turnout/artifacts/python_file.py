"""Reads the names that a Python file defines, without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from importlib.util import decode_source
from pathlib import Path


class PythonFileError(Exception):
    """A file cannot be read or does not compile; the message is a sentence without a full stop."""


def read_names(path: Path) -> frozenset[str]:
    """Return the names that a file binds by def, import or assignment; with `*` for all names of another module.

    Raises:
        PythonFileError: it cannot be read, or does not compile.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PythonFileError(f"{path.name} cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence is the author's concern
            tree = ast.parse(decode_source(source), filename=path.name)
            compile(tree, path.name, "exec", dont_inherit=True)  # reports a `return` outside a function
    except SyntaxError as error:
        raise PythonFileError(f"{path.name} does not compile: line {error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise PythonFileError(f"{path.name} does not compile: {error}") from error
    return frozenset(_names_bound(tree))


def _names_bound(tree: ast.Module) -> Iterator[str]:
    """Return the names that a module binds, in any branch."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
