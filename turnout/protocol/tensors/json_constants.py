"""Reads JSON with NaN, Infinity and -Infinity as bare words, as Python's `json` and tritonclient write them.

JSON has no such numbers and orjson rejects them, so each word outside of a string is replaced before the text is read
again. This is only for texts that cannot be read otherwise.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from typing import Any

import orjson

NUMBERS: Mapping[str, float] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""The numbers of the words."""

SPELLED: Mapping[str, str] = {name: name for name in NUMBERS}
"""The words as strings, which float tensors accept, too."""

# An unterminated string matches to the end of the text; otherwise each quote in it would be tried again.
_WORD = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|-?Infinity|NaN', re.DOTALL)

# A placeholder for a word. It is unguessable, so no client's string can be mistaken for a number.
_PLACEHOLDER = secrets.token_hex(16)


def read_with_constants(text: bytes, values: Mapping[str, Any] = NUMBERS) -> Any:
    """Return the document, with each word replaced by its value.

    Raises:
        orjson.JSONDecodeError: the text is not JSON even so. Its position is that in `text`.
    """
    if b"NaN" in text or b"Infinity" in text:
        try:
            document = orjson.loads(_WORD.sub(_to_placeholder, text))
        except orjson.JSONDecodeError:
            text = _WORD.sub(_fill, text)
        else:
            return _replace(document, {f"{_PLACEHOLDER}{name}": value for name, value in values.items()})
    return orjson.loads(text)


def _to_placeholder(match: re.Match[bytes]) -> bytes:
    word = match[0]
    return word if word[:1] == b'"' else b'"%b%b"' % (_PLACEHOLDER.encode(), word)


def _fill(match: re.Match[bytes]) -> bytes:
    """Return a number of the same length, so that positions stay."""
    word = match[0]
    if word[:1] == b'"':
        return word
    return b"-" + b"1" * (len(word) - 1) if word[:1] == b"-" else b"1" * len(word)


def _replace(document: Any, values: Mapping[str, Any]) -> Any:
    """Return the document with values for placeholders. It keeps a list of levels, so depth costs nothing."""
    root = [document]
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        items = enumerate(holder) if type(holder) is list else tuple(holder.items())
        for key, value in items:
            if type(value) is str:
                if value in values:
                    holder[key] = values[value]
            elif type(value) is list or type(value) is dict:
                waiting.append(value)
    return root[0]
