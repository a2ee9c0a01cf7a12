"""Reads long flat lists of numbers in JSON into an array without a Python object for each, three times as fast.

The result is always the same as without this module: whatever is unusual (a list within the list, a value that is no
number of the datatype or out of its range, a text that is not JSON) raises `NotPlainError`, and the usual reader then
answers or rejects it. simdjson rounds decimals to the nearest FP64 as orjson does, and never converts one kind of
number to another; `tests/protocol/tensors/test_long_lists.py` compares both readers.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from functools import cache
from types import ModuleType
from typing import Any, Literal

import numpy as np
import orjson

from turnout.protocol.tensors.datatypes import Array, Datatype

LONG_BYTES = 16_384
"""Length of text from which this module is faster."""

_MOST_LISTS = 64

_KEPT_BYTES = 4 << 20
_PARSERS: deque[Any] = deque(maxlen=2)
"""Parsers that are not in use. For each new one, the system would provide new memory page by page, twelve times the
text, which takes longer than the reading. Any thread takes one out and puts it back.
"""

_KEY = b'"data"'
_LIST = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')

# Replaces a list that was cut out of the document. It is unguessable, so no client can send a text that is mistaken for
# such a list.
_PLACEHOLDER = secrets.token_hex(16)

_FP64, _INT64 = np.dtype("<f8"), np.dtype("<i8")


class NotPlainError(Exception):
    """The request needs the usual reader."""


class LongList:
    """The text of one list."""

    __slots__ = ("_text",)

    def __init__(self, text: bytes) -> None:
        self._text = text

    def read(self, datatype: Datatype, count: int) -> Array:
        """Return the elements as a one-dimensional array.

        Raises:
            NotPlainError: they are not `count` numbers of `datatype`, or simdjson does not support it.
        """
        numbers: Array
        if datatype.name == "UINT64":
            numbers = np.frombuffer(_read_buffer(self._text, "u"), datatype.dtype)
        elif datatype.kind == "int":
            numbers = np.frombuffer(_read_buffer(self._text, "i"), _INT64)
        elif datatype.kind == "float" and datatype.name != "BF16":
            numbers = np.frombuffer(_read_buffer(self._text, "d"), _FP64)
        else:
            raise NotPlainError
        if len(numbers) != count or not count:
            raise NotPlainError
        if numbers.dtype == datatype.dtype:
            return numbers
        if datatype.kind == "int":
            limits = np.iinfo(datatype.dtype)
            if numbers.min() < limits.min or numbers.max() > limits.max:
                raise NotPlainError
            return numbers.astype(datatype.dtype)
        with np.errstate(over="ignore", under="ignore"):
            array: Array = numbers.astype(datatype.dtype)
        if np.isinf(array).any():
            raise NotPlainError
        return array


def read_document(text: bytes, long_bytes: int = LONG_BYTES) -> Any:
    """Return the document, with a `LongList` for each long `data` of the tensors in `inputs`.

    Raises:
        NotPlainError: there is no such list, one is not the `data` of a tensor, or simdjson is not installed.
    """
    lists: dict[str, LongList] = {}
    parts: list[bytes] = []
    done = at = 0
    while len(lists) < _MOST_LISTS and (at := text.find(_KEY, at)) >= 0:
        match = _LIST.match(text, at)
        at += len(_KEY)
        if match is None:
            continue
        start, end = match.end(), text.find(b"]", match.end()) + 1
        if not end:
            break
        if end - start < long_bytes:
            continue
        placeholder = f"{_PLACEHOLDER}{len(lists)}"
        lists[placeholder] = LongList(text[start:end])
        parts += (text[done:start], b'"', placeholder.encode(), b'"')
        done = at = end
    if not lists or load_simdjson() is None:
        raise NotPlainError
    try:
        document = orjson.loads(b"".join((*parts, text[done:])))
    except orjson.JSONDecodeError:
        raise NotPlainError from None
    _put_back(document, lists)
    return document


def _put_back(document: Any, lists: dict[str, LongList]) -> None:
    """Put each list in the place of its placeholder, which must occur once."""
    inputs = document.get("inputs") if type(document) is dict else None
    for tensor in inputs if type(inputs) is list else ():
        placeholder = tensor.get("data") if type(tensor) is dict else None
        if type(placeholder) is str and placeholder in lists:
            tensor["data"] = lists.pop(placeholder)
    if lists:
        raise NotPlainError


@cache
def load_simdjson() -> ModuleType | None:
    """Return the simdjson module; None if it is not installed, as on Python 3.14, which it has no wheels for."""
    try:
        import simdjson
    except ImportError:
        return None
    return simdjson


def _read_buffer(text: bytes, code: Literal["d", "i", "u"]) -> Any:
    """Return the numbers of a list as simdjson's buffer: FP64 for `d`, INT64 for `i`, UINT64 for `u`."""
    simdjson = load_simdjson()
    if simdjson is None:
        raise NotPlainError
    try:
        parser = _PARSERS.pop()
    except IndexError:
        parser = simdjson.Parser()
    try:
        numbers = parser.parse(text)
        if not isinstance(numbers, simdjson.Array):
            raise NotPlainError
        buffer = numbers.as_buffer(of_type=code)
    except (ValueError, TypeError, RuntimeError, MemoryError):
        raise NotPlainError from None  # drop the parser, too: the error may refer to what it has read
    del numbers  # otherwise the parser could not read anything else
    if len(text) <= _KEPT_BYTES:
        _PARSERS.append(parser)
    return buffer
