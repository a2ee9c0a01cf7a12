"""Checks a transform's source, without running it."""

from __future__ import annotations

from pathlib import Path

from turnout.artifacts.python_file import PythonFileError, read_names

HOOKS = frozenset({"preprocess", "postprocess"})
"""The functions that a transform may define."""


def check_transform(path: Path) -> str:
    """Return the problems of a transform file, without running it."""
    try:
        names = read_names(path)
    except PythonFileError as error:
        return str(error)
    if names.isdisjoint({*HOOKS, "*"}):
        return f"{path.name} defines neither `preprocess` nor `postprocess`"
    return ""


def hooks_of(transform: Path) -> frozenset[str]:
    """Return which of `preprocess` and `postprocess` a transform defines; both if only running it would show that."""
    try:
        names = read_names(transform)
    except PythonFileError:
        return HOOKS
    return HOOKS if "*" in names else HOOKS & names
