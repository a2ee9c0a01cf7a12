"""A version's own Python: loads its file in a separate namespace, judges its exceptions, checks what it returns.

Arrays have the types of the wire format: BYTES are object arrays of `bytes`, BF16 is its bits in `uint16`
(`turnout.protocol.bfloat16` converts). The code may write to its inputs; texts that it returns may be `str`, `bytes` or
numpy's.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from turnout.protocol.tensors.datatypes import Array
from turnout.protocol.tensors.interface import datatype_of

from .own_modules import OwnModules
from .runtime import ModelError

log = logging.getLogger("turnout.function")
Hook = Callable[..., Any]

VALUE_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError)
"""Python's exceptions for an invalid number, text that is not UTF-8 or JSON, a missing key or column."""

DOUBT = 5
"""Consecutive failures without any success after which the code is blamed, not the values."""


class ReturnError(Exception):
    """The code's return value cannot be served; the message is for the log."""


class OwnCode:
    """One Python file and the files next to it.

    Args:
        path: the file.
        owner: `iris v1`, for messages.
        files: the files that it may import, relative to its folder; None for all files there.

    Raises:
        ModelError: the file cannot be run.
    """

    def __init__(self, path: Path, owner: str, files: Iterable[str] | None = None) -> None:
        if path.suffix != ".py":
            raise ModelError(f"{owner}: {path.name} is not a Python file")
        try:
            modules = OwnModules(path, owner, files)
        except OSError as error:
            raise ModelError(f"{owner}: {error.filename} cannot be read: {error.strerror}") from error
        self._owner = owner
        self._name = path.name
        self._module = _load(modules, path, owner)
        self.restate = modules.restate
        weakref.finalize(self, modules.unload).atexit = False

    def function(self, name: str) -> Hook | None:
        """Return the function with this name; None if the file has none."""
        function: Hook | None = getattr(self._module, name, None)
        if function is not None and not callable(function):
            raise ModelError(f"{self._owner}: `{name}` of {self._name} is not a function")
        return function


def _load(modules: OwnModules, path: Path, owner: str) -> ModuleType:
    try:
        return modules.load()
    except (Exception, SystemExit) as error:
        reason = modules.restate(f"{type(error).__name__}: {error}")
        raise ModelError(f"{owner}: {path.name} cannot be run: {reason}") from error


class Doubt:
    """Distinguishes values that the code cannot use from broken code: both raise the same exceptions.

    Args:
        owner: `iris v1`, for the log.
        step: the function's name.
    """

    def __init__(self, owner: str, step: str) -> None:
        self._owner = owner
        self._step = step
        self._has_worked = False
        self._failures = 0

    def judge(self, error: Exception) -> str:
        """Return the exception's name if the client's values are to blame; otherwise raise it again."""
        self._failures += 1
        if not self._has_worked and self._failures > DOUBT:
            raise error
        log.warning("%s: %s could not use a request's values", self._owner, self._step, exc_info=error)
        return type(error).__name__

    def note_success(self) -> None:
        """Record that the code has worked: later failures are blamed on the values."""
        self._has_worked = True


def make_writable(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the client's tensors as the code gets them."""
    return {name: values if values.flags.writeable else values.copy() for name, values in inputs.items()}


def check_returned(step: str, returned: Any) -> dict[str, Array]:
    """Return the arrays that a step returned, as they are served.

    Raises:
        ReturnError: it is not a dict of arrays, or contains a dtype that cannot be served.
    """
    if not isinstance(returned, dict):
        raise ReturnError(f"{step} returned {type(returned).__name__}, not a dict of arrays")
    return {_name(step, name): _served(step, name, values) for name, values in returned.items()}


def _name(step: str, name: Any) -> str:
    if not isinstance(name, str):
        raise ReturnError(f"{step} returned the name {name!r}, not a str")
    return name


def _served(step: str, name: str, values: Any) -> Array:
    """Return an array of a supported dtype in this machine's byte order: runtimes misread the other one."""
    array = np.asarray(values)
    if array.dtype.kind in "USO":
        array = as_bytes(array)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not datatype_of(array, None):
        raise ReturnError(f"{step} returned `{name}` with dtype {array.dtype}, which is not a datatype of the protocol")
    return array


def as_bytes(values: Array) -> Array:
    """Return texts as an object array of `bytes`."""
    texts = np.empty(values.size, object)
    for index, value in enumerate(values.reshape(-1).tolist()):
        if not isinstance(value, str | bytes):
            raise ReturnError(f"an object array holds {type(value).__name__}, not str or bytes")
        texts[index] = value.encode() if isinstance(value, str) else value
    return texts.reshape(values.shape)
