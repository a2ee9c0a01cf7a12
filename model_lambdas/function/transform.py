"""A version's own Python around the session: `preprocess(inputs)` before it, `postprocess(outputs)` after it.

Both functions take and return a dict of name -> numpy array, and either may be left out:

- Arrays are as the wire has them: BYTES are object arrays of `bytes`, BF16 is its bits in `uint16`
  (`turnout.protocol.bfloat16` converts). They may be written to.
- `preprocess` gets what the client sent, checked only to be well-formed tensors: any names, datatypes and shapes. What
  it returns is checked against the signature and goes to the session. In the short forms, which name no datatypes, an
  input that the signature knows has its datatype there, any other BYTES, BOOL, INT64 or FP64 by its values.
- `postprocess` gets all the session's outputs; what it returns is the answer. Texts may be `str`, `bytes` or numpy's.
- `raise Refused("sentence")`, from `turnout.protocol.errors`, refuses what the client sent: a 422 with that sentence.
- What Python raises in `preprocess` for values that it cannot use (`VALUE_ERRORS`) is a 422, too. Its message goes to
  the log, for a client could not make sense of it. A `preprocess` that has never worked since the version was loaded,
  and has failed more often than `DOUBT`, is a failure of the version instead.
- Any other exception, and any in `postprocess`, is a 500 with the traceback in the log only.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from turnout.protocol.errors import Refused
from turnout.protocol.tensors.interface import datatype_of

from .runtime import ModelError
from .transform_modules import TransformModules

log = logging.getLogger("turnout.function")

Array = npt.NDArray[Any]
Hook = Callable[[dict[str, Array]], Any]


VALUE_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError)
"""What Python raises for a number that is none, text that is not UTF-8 or JSON, a key or column that is missing."""

DOUBT = 5
"""So many failures in a row without one success: then it is not the values."""


class TransformError(Exception):
    """What a transform returned is no dict of arrays that can be served; for the log."""


class Transform:
    """The two functions of one file, each None where the file has none.

    Args:
        path: the file.
        owner: `iris v1`, for messages.
        files: what it may import from beside it, relative to its folder; None for everything there.

    Raises:
        ModelError: the file cannot be run, or has neither function.
    """

    def __init__(self, path: Path, owner: str, files: Iterable[str] | None = None) -> None:
        if path.suffix != ".py":
            raise ModelError(f"{owner}: {path.name} is not a Python file")
        try:
            modules = TransformModules(path, owner, files)
        except OSError as error:
            raise ModelError(f"{owner}: {error.filename} cannot be read: {error.strerror}") from error
        module = _load(modules, path, owner)
        self._name = owner
        self._has_worked = False
        self._failures = 0
        weakref.finalize(self, modules.unload).atexit = False
        self._preprocess: Hook | None = _function(module, "preprocess", owner)
        self._postprocess: Hook | None = _function(module, "postprocess", owner)
        if self._preprocess is None and self._postprocess is None:
            raise ModelError(f"{owner}: {path.name} has neither a function `preprocess` nor `postprocess`")

    @property
    def has_preprocess(self) -> bool:
        """Whether something stands before the session."""
        return self._preprocess is not None

    @property
    def has_postprocess(self) -> bool:
        """Whether something stands behind the session."""
        return self._postprocess is not None

    def preprocess(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the file makes of the client's tensors; whatever it raises comes through, but `VALUE_ERRORS`.

        Raises:
            Refused: it could not use the values.
        """
        assert self._preprocess is not None
        writable = {name: values if values.flags.writeable else values.copy() for name, values in inputs.items()}
        try:
            returned = self._preprocess(writable)
        except VALUE_ERRORS as error:
            self._failures += 1
            if not self._has_worked and self._failures > DOUBT:
                raise
            log.warning("%s: preprocess could not use a request's values", self._name, exc_info=error)
            kind = type(error).__name__
            message = f"{self._name}: the transform cannot use these values ({kind}); the function's log says more"
            raise Refused(message, exception=kind) from error
        arrays = _arrays("preprocess", returned)
        self._has_worked = True
        return arrays

    def postprocess(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the file makes of the session's outputs; whatever it raises comes through."""
        assert self._postprocess is not None
        taken = {name: _as_bytes(values) if values.dtype.kind == "O" else values for name, values in outputs.items()}
        return _arrays("postprocess", self._postprocess(taken))


def _load(modules: TransformModules, path: Path, owner: str) -> ModuleType:
    try:
        return modules.load()
    except (Exception, SystemExit) as error:
        reason = modules.restate(f"{type(error).__name__}: {error}")
        raise ModelError(f"{owner}: {path.name} cannot be run: {reason}") from error


def _function(module: ModuleType, name: str, owner: str) -> Hook | None:
    function: Hook | None = getattr(module, name, None)
    if function is not None and not callable(function):
        raise ModelError(f"{owner}: `{name}` of the transform is not a function")
    return function


def _arrays(step: str, returned: Any) -> dict[str, Array]:
    if not isinstance(returned, dict):
        raise TransformError(f"{step} returned {type(returned).__name__}, not a dict of arrays")
    return {_name(step, name): _served(step, name, values) for name, values in returned.items()}


def _name(step: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TransformError(f"{step} returned the name {name!r}, not a str")
    return name


def _served(step: str, name: str, values: Any) -> Array:
    """An array of a served dtype in this machine's byte order: onnxruntime reads the other one wrongly."""
    array = np.asarray(values)
    if array.dtype.kind in "USO":
        array = _as_bytes(array)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not datatype_of(array, None):
        raise TransformError(f"{step} returned `{name}` with dtype {array.dtype}, which is no datatype of the protocol")
    return array


def _as_bytes(values: Array) -> Array:
    texts = np.empty(values.size, object)
    for index, value in enumerate(values.reshape(-1).tolist()):
        if not isinstance(value, str | bytes):
            raise TransformError(f"an object array holds {type(value).__name__}, not str or bytes")
        texts[index] = value.encode() if isinstance(value, str) else value
    return texts.reshape(values.shape)
