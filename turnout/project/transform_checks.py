"""Checks of a transform's source, without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from importlib.util import decode_source
from pathlib import Path


def check_transform(path: Path) -> str:
    """What is wrong with a transform file, without running it; empty where nothing is."""
    try:
        source = path.read_bytes()
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is the author's affair
            tree = ast.parse(decode_source(source), filename=path.name)
            compile(tree, path.name, "exec", dont_inherit=True)  # sees a `return` outside a function
    except SyntaxError as error:
        return f"{path.name} does not compile: line {error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path.name} does not compile: {error}"
    if {"preprocess", "postprocess", "*"}.isdisjoint(_names_bound(tree)):
        return f"{path.name} defines neither `preprocess` nor `postprocess`"
    return ""


def _names_bound(tree: ast.Module) -> Iterator[str]:
    """The names that a module binds by def, import or assignment, in whatever branch; `*` for all of another module."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def hooks_of(transform: Path) -> frozenset[str]:
    """Which of `preprocess` and `postprocess` a transform defines; both where only running it would tell."""
    hooks = frozenset({"preprocess", "postprocess"})
    try:
        bound = set(_names_bound(ast.parse(decode_source(transform.read_bytes()))))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return hooks
    return hooks if "*" in bound else hooks & bound
