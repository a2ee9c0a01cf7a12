"""Converts one tensor's numbers and texts in JSON: from a flat list to a one-dimensional array, and back.

A value never changes: one that a datatype cannot represent is rejected by name and index, nothing is cast. Floats are
read as doubles, as everywhere in JSON, and rounded to the nearest number of the datatype; larger ones than its largest
are rejected. (`-0.0` keeps its sign; the JSON reader takes `-0` for an integer's zero.) NaN and the infinities are the
strings of protobuf's JSON mapping, and `null` is read as NaN. An integer with a fraction or an exponent (`1.0`, `1e3`)
is rejected for integer datatypes: it is no longer known whether `1.0` meant `1` or was rounded before, and beyond 64
bits the JSON reader itself makes a float of it. BYTES are strings, stored as their UTF-8 bytes.
"""

from __future__ import annotations

import binascii
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from turnout.protocol import bfloat16
from turnout.protocol.errors import RequestError, shown
from turnout.protocol.tensors.datatypes import DATATYPES, Array, Datatype

try:
    import pybase64 as base64
except ImportError:  # pragma: no cover - a layer without it is slower
    import base64  # type: ignore[no-redef]

_SPELLED: Mapping[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# `array.array` instead of numpy: it rejects 300 as UINT8, 1.5 as INT32 and "1" as FP32, which numpy casts or parses,
# and no INT64 passes through a float. It accepts `true` as 1, which `read_values` checks beforehand.
TYPECODES: Mapping[str, str] = {
    "INT8": "b", "UINT8": "B", "INT16": "h", "UINT16": "H", "INT32": "i", "UINT32": "I", "INT64": "q", "UINT64": "Q",
    "FP32": "f", "FP64": "d",
}  # fmt: skip

FEW = 32
"""Up to this many elements, a Python loop is faster than a call of numpy."""


def may_hold_booleans(text: bytes) -> bool:
    """Whether JSON text can contain `true` or `false` at all; looking for one letter first is many times faster."""
    return (b"r" in text and b"true" in text) or (b"l" in text and b"false" in text)


def read_values(name: str, datatype: Datatype, values: list[Any], *, booleans: bool) -> Array:
    """Return one tensor's elements.

    Args:
        name: name of the input, for the error.
        datatype: datatype of the elements.
        values: result of `orjson.loads`.
        booleans: `may_hold_booleans` of their text.

    Raises:
        RequestError: INVALID_VALUE, VALUE_OUT_OF_RANGE, or SHAPE_MISMATCH for a list among the values.
    """
    if not values:
        return np.empty(0, datatype.dtype)
    code = TYPECODES.get(datatype.name)
    if code is None or (booleans and bool in set(map(type, values))):
        return _READERS[datatype.name](name, datatype, values)
    try:
        elements = array(code, values)
    except (TypeError, OverflowError):
        return _READERS[datatype.name](name, datatype, values)
    numbers: Array = np.frombuffer(elements, datatype.dtype)
    if code == "f" and _has_infinity(elements, numbers):
        return _read_floats(name, datatype, values)
    return numbers


def _has_infinity(elements: array[float], numbers: Array) -> bool:
    if len(elements) <= FEW:
        return not math.isfinite(sum(elements))  # in FP64, where the sum of so few FP32 values cannot overflow
    return bool(np.isinf(numbers).any())


def _read_integers(name: str, datatype: Datatype, values: list[Any]) -> Array:
    limits = np.iinfo(datatype.dtype)
    low, high = int(limits.min), int(limits.max)
    for index, value in enumerate(values):
        if type(value) is not int:
            code = "VALUE_OUT_OF_RANGE" if type(value) is float and abs(value) >= 2**63 else "INVALID_VALUE"
            raise _wrong(code, name, index, f"an integer ({datatype.name})", value)
        if not low <= value <= high:
            raise _wrong("VALUE_OUT_OF_RANGE", name, index, f"{datatype.name}, {low} to {high}", value)
    return np.array(values, datatype.dtype)


def _read_floats(name: str, datatype: Datatype, values: list[Any]) -> Array:
    numbers = np.array([_read_float(name, datatype, index, value) for index, value in enumerate(values)], np.float64)
    narrowed = _NARROW[datatype.name](numbers)
    wide = bfloat16.to_float32(narrowed) if datatype.name == "BF16" else narrowed
    overflown = np.flatnonzero(np.isinf(wide) & np.isfinite(numbers))
    if overflown.size:
        index = int(overflown[0])
        raise _wrong("VALUE_OUT_OF_RANGE", name, index, f"a number within the range of {datatype.name}", values[index])
    return narrowed


def _read_float(name: str, datatype: Datatype, index: int, value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    if value is None:
        return math.nan
    if isinstance(value, str) and value in _SPELLED:
        return _SPELLED[value]
    expected = f'a number ({datatype.name}), "NaN", "Infinity", "-Infinity" or null'
    raise _wrong("INVALID_VALUE", name, index, expected, value)


def _read_booleans(name: str, datatype: Datatype, values: list[Any]) -> Array:
    if set(map(type, values)) != {bool}:
        index = next(index for index, value in enumerate(values) if type(value) is not bool)
        raise _wrong("INVALID_VALUE", name, index, "true or false (BOOL)", values[index])
    return np.array(values, datatype.dtype)


def _read_texts(name: str, datatype: Datatype, values: list[Any]) -> Array:
    if set(map(type, values)) != {str}:
        index = next(index for index, value in enumerate(values) if type(value) is not str)
        raise _wrong("INVALID_VALUE", name, index, "a string (BYTES)", values[index])
    texts = np.empty(len(values), datatype.dtype)
    texts[:] = [value.encode() for value in values]
    return texts


def decode_base64(name: str, values: Array) -> Array:
    """Return decoded BYTES that were sent in base64; INVALID_VALUE if one is not base64."""
    decoded = np.empty(len(values), values.dtype)
    for index, value in enumerate(values.tolist()):
        try:
            decoded[index] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _wrong("INVALID_VALUE", name, index, "base64, as its `content_type` says", value.decode()) from None
    return decoded


_READERS: Mapping[str, Callable[[str, Datatype, list[Any]], Array]] = {
    datatype.name: {"int": _read_integers, "float": _read_floats, "bool": _read_booleans, "bytes": _read_texts}[
        datatype.kind
    ]
    for datatype in DATATYPES.values()
}


def _narrow_to(dtype: str) -> Callable[[npt.NDArray[np.float64]], Array]:
    def narrow(numbers: npt.NDArray[np.float64]) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            return numbers.astype(dtype)

    return narrow


_NARROW: Mapping[str, Callable[[npt.NDArray[np.float64]], Array]] = {
    "FP16": _narrow_to("<f2"),
    "BF16": bfloat16.from_float64,
    "FP32": _narrow_to("<f4"),
    "FP64": _narrow_to("<f8"),
}


def _wrong(code: str, name: str, index: int, expected: str, value: Any) -> RequestError:
    if isinstance(value, list):
        code, expected = "SHAPE_MISMATCH", "an element at this depth"
    got = shown(value)
    return RequestError(
        code,
        f"input `{name}`, element {index}: expected {expected}, got {got}",
        tensor=name,
        expected=expected,
        got=got,
        index=index,
    )


def infer_datatype(values: Sequence[Any]) -> Datatype:
    """Return the datatype of values without one: BYTES, BOOL, INT64 (UINT64 if necessary), else FP64."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return DATATYPES["BYTES"]
    if kinds == {bool}:
        return DATATYPES["BOOL"]
    if kinds == {int}:
        return DATATYPES["UINT64" if max(values) > 2**63 - 1 else "INT64"]
    return DATATYPES["FP64"]


AS_THEY_ARE = frozenset(DATATYPES) - {"BYTES", "BF16"}
"""Datatypes whose arrays orjson writes directly, if they have at least one dimension, are contiguous and have no
NaN.
"""


def write_values(name: str, datatype: str, values: Array, *, spelled: bool = False) -> Any:
    """Return nested lists of `values`' shape for `orjson.dumps(..., option=OPT_SERIALIZE_NUMPY)`.

    orjson writes an array directly, each float with the shortest digits for its own width, but NaN and the infinities
    as null: the caller looks for `null` in the result and calls again with `spelled`.

    Args:
        name: name of the output, for the error.
        datatype: a key of `DATATYPES`.
        values: an array of that datatype, of any shape and memory order.
        spelled: whether NaN and the infinities become strings.

    Raises:
        RequestError: OUTPUT_NEEDS_BINARY if BYTES are not UTF-8.
    """
    if datatype == "BYTES":
        return _write_texts(name, values)
    numbers = bfloat16.to_float32(values) if datatype == "BF16" else values
    if spelled and DATATYPES[datatype].kind == "float":
        odd = np.flatnonzero(~np.isfinite(numbers.reshape(-1)))
        if odd.size:
            return _spell(numbers, odd)
    if numbers.dtype.char in "qQ":
        # onnxruntime's 64-bit integers are C's long long, whose scalars orjson does not support; it supports the
        # view's.
        numbers = numbers.view(DATATYPES[datatype].dtype)
    if not numbers.shape:
        return numbers[()]  # orjson writes numpy's scalars, but no zero-dimensional array
    return numbers if numbers.flags.c_contiguous else np.ascontiguousarray(numbers)


def _write_texts(name: str, values: Array) -> Any:
    texts: list[str] = []
    for value in values.reshape(-1).tolist():
        try:
            texts.append(value if isinstance(value, str) else value.decode())
        except UnicodeDecodeError:
            message = (
                f"output `{name}` holds BYTES that are not UTF-8, which JSON cannot carry: ask for it in binary "
                '(`"parameters": {"binary_data": true}` in `outputs`)'
            )
            raise RequestError("OUTPUT_NEEDS_BINARY", message, tensor=name) from None
    return nest(texts, values.shape)


def _spell(numbers: Array, odd: npt.NDArray[np.intp]) -> Any:
    flat: list[Any] = list(numbers.reshape(-1))  # numpy's scalars: orjson writes their shortest digits
    for index in odd:
        value = flat[index]
        flat[index] = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124
    return nest(flat, numbers.shape)


def nest(flat: list[Any], shape: Sequence[int]) -> Any:
    """Return a flat row-major list as lists nested to `shape`; its only element if `shape` is empty."""
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        outer = len(flat) // size if size else 0
        flat = [flat[index * size : (index + 1) * size] for index in range(outer)]
    if len(flat) == shape[0]:
        return flat
    return _nest_empty(shape)


def _nest_empty(shape: Sequence[int]) -> list[Any]:
    return [_nest_empty(shape[1:]) if len(shape) > 1 else [] for _ in range(shape[0])]
