"""Tensors as raw bytes after the JSON, the Open Inference Protocol's binary tensor data extension.

Every length is checked before it is used. Source: Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from turnout.protocol.errors import RequestError, shown
from turnout.protocol.tensors.datatypes import DATATYPES, Array, Datatype

_LENGTH = struct.Struct("<I")

PIECE_BYTES = 4 * 1024 * 1024
"""Size of the pieces in which an array is copied from a mapped file."""


class BinaryPart:
    """The binary part after the JSON, read from start to end."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes, position: int) -> None:
        self._body = body
        self._position = position

    def __len__(self) -> int:
        """Return the number of bytes of the whole body."""
        return len(self._body)

    def take(self, name: str, datatype: Datatype, count: int, size: Any) -> Array:
        """Return the next `size` bytes as a one-dimensional array of `count` elements, which may be read-only.

        Raises:
            RequestError: INVALID_BINARY if the sizes do not agree, INVALID_VALUE for a BOOL that is neither 0 nor 1.
        """
        start = self._position
        left = len(self._body) - start
        if type(size) is not int or size < 0:
            raise _invalid(name, "a `binary_data_size` of 0 or more", shown(size))
        if size > left:
            raise _invalid(name, f"{size} bytes (its `binary_data_size`)", f"{left} left in the body")
        self._position += size
        if datatype.kind == "bytes":
            return _read_bytes(name, self._body, start, size, count)
        if size != count * datatype.size:
            raise _invalid(
                name, f"{count * datatype.size} bytes for {count} elements of {datatype.name}", f"{size} bytes"
            )
        if datatype.kind == "bool":
            _check_booleans(name, np.frombuffer(self._body, np.uint8, count, start))
        array: Array = np.frombuffer(self._body, datatype.dtype, count, start)
        return array if array.flags.aligned else _align(array, self._body, start)

    def check_finished(self) -> None:
        """Reject bytes that no input uses."""
        left = len(self._body) - self._position
        if left:
            raise RequestError(
                "INVALID_BINARY",
                f"the inputs' `binary_data_size` leave {left} bytes of the body over: expected 0",
                expected=0,
                got=left,
            )


def _align(array: Array, body: bytes | mmap.mmap, start: int) -> Array:
    """Return a copy whose elements are aligned in memory.

    A mapped file is copied in pieces, and the pages of each are released, so that memory does not hold it twice.
    """
    if not isinstance(body, mmap.mmap):
        return array.copy()
    copy, count = np.empty_like(array), PIECE_BYTES // array.itemsize
    for first in range(0, array.size, count):
        copy[first : first + count] = array[first : first + count]
        end = start + min(first + count, array.size) * array.itemsize
        page = (start + first * array.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
        body.madvise(mmap.MADV_DONTNEED, page, end - page)
    return copy


def _check_booleans(name: str, raw: npt.NDArray[np.uint8]) -> None:
    odd = np.flatnonzero(raw > 1)
    if odd.size:
        index, expected = int(odd[0]), "0 or 1 (BOOL)"
        raise RequestError(
            "INVALID_VALUE",
            f"input `{name}`, element {index}: expected {expected}, got {raw[index]}",
            tensor=name,
            expected=expected,
            got=int(raw[index]),
            index=index,
        )


def _read_bytes(name: str, body: bytes, start: int, size: int, count: int) -> Array:
    end = start + size
    if count * _LENGTH.size > size:
        raise _invalid(name, f"{count} elements, each with its 4-byte length", f"{size} bytes")
    array = np.empty(count, object)
    for index in range(count):
        if end - start < _LENGTH.size:
            raise _invalid(name, f"a 4-byte length before element {index}", f"{end - start} bytes")
        (length,) = _LENGTH.unpack_from(body, start)
        start += _LENGTH.size
        if length > end - start:
            raise _invalid(name, f"{length} bytes for element {index} (its length)", f"{end - start} bytes")
        array[index] = bytes(body[start : start + length])
        start += length
    if start != end:
        raise _invalid(name, f"{count} elements", f"{end - start} bytes more")
    return array


def view_binary(datatype: str, values: Array) -> bytes | memoryview:
    """Return an array as the extension's bytes: a view of its memory if that has the same order."""
    spec = DATATYPES[datatype]
    if spec.kind == "bytes":
        return write_binary(datatype, values)
    return np.ascontiguousarray(values, spec.dtype).reshape(-1).view(np.uint8).data


def write_binary(datatype: str, values: Array) -> bytes:
    """Return an array of any shape and memory order as the extension's bytes."""
    spec = DATATYPES[datatype]
    if spec.kind != "bytes":
        return values.astype(spec.dtype, copy=False).tobytes()
    parts: list[bytes] = []
    for value in values.reshape(-1).tolist():
        element = value.encode() if isinstance(value, str) else value
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _invalid(name: str, expected: str, got: str) -> RequestError:
    sentence = f"input `{name}`: expected {expected}, got {got}"
    return RequestError("INVALID_BINARY", sentence, tensor=name, expected=expected, got=got)
