"""Reads a function's proxy response as API Gateway does.

None of the five keys is required, and no other key is allowed. Base64 is decoded only if the first type of the
request's `Accept` is among the API's binary media types; otherwise the base64 text itself is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
import pybase64

from turnout.protocol.aws.limits import LARGEST_ANSWER_BYTES

_KEYS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_REMAPPED = frozenset({"connection", "content-length", "date", "server"})
"""Fields that belong to the connection: those of a function are sent as `x-amzn-Remapped-*`."""
_DROPPED = frozenset({"transfer-encoding"})
_SURELY_SMALL_CHARACTERS = 1_000_000
_LONG_CHARACTERS = 2_000


class MalformedAnswerError(Exception):
    """API Gateway would not accept the function's response; the message says why, for the log."""


def read_answer(answer: object, *, decodes_base64: bool) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """Return status, header fields (always with a `Content-Type`) and body.

    Raises:
        MalformedAnswerError: AWS answers 502 to it.
    """
    # An isinstance check against an abstract class costs more than the rest of this function; nearly every answer is a
    # plain dict.
    if type(answer) is not dict and not isinstance(answer, Mapping):
        raise MalformedAnswerError(f"must be an object, got {type(answer).__name__}")
    if not answer.keys() <= _KEYS:
        raise MalformedAnswerError(f"unknown key {next(key for key in answer if key not in _KEYS)!r}")
    status = answer.get("statusCode")
    if type(status) is not int or not 200 <= status <= 599:
        status = _read_status(status)
    return status, _read_headers(answer), _read_body(answer, decodes_base64=decodes_base64)


def _read_status(status: object) -> int:
    if status is None:
        return 200
    if isinstance(status, str) and status.isascii() and status.isdecimal():
        status = int(status) if len(status) < 5 else 0
    # A 1xx status would leave the client waiting for the final response.
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise MalformedAnswerError(f"statusCode must be 200-599, got {status!r}")
    return status


def _read_body(answer: Mapping[str, Any], *, decodes_base64: bool) -> bytes:
    body = answer.get("body")
    is_base64 = answer.get("isBase64Encoded")
    if is_base64 is not None and not isinstance(is_base64, bool):
        raise MalformedAnswerError(f"isBase64Encoded must be true or false, got {is_base64!r}")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedAnswerError(f"body must be text, got {type(body).__name__}")
    if len(body) > _SURELY_SMALL_CHARACTERS and len(orjson.dumps(answer)) > LARGEST_ANSWER_BYTES:
        raise MalformedAnswerError(f"is larger than {LARGEST_ANSWER_BYTES} bytes")
    if not (is_base64 and decodes_base64):
        return body.encode("utf-8", "replace")
    try:
        return pybase64.b64decode(body, validate=True)
    except ValueError as error:
        raise MalformedAnswerError("body is not base64") from error


def _read_headers(answer: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    single, multiple = answer.get("headers"), answer.get("multiValueHeaders")
    if type(single) is dict and not multiple:
        try:
            return _known_fields(tuple(single.items()))
        except (TypeError, _UnknownFieldsError):  # TypeError: a value that cannot be a key of a dict
            pass
    return tuple(_merge_fields(single, multiple))


class _UnknownFieldsError(Exception):
    """The fields are too long for the cache, or have values other than text."""


@lru_cache(maxsize=256)
def _known_fields(single: tuple[tuple[str, object], ...]) -> tuple[tuple[str, str], ...]:
    """Return the cached fields of an answer with single values only: functions usually return the same ones.

    Only texts are cached: `True` and `1` are the same key of a dict, but not the same value of a field.
    """
    if sum(len(value) if type(value) is str else _LONG_CHARACTERS for _, value in single) >= _LONG_CHARACTERS:
        raise _UnknownFieldsError
    return tuple(_merge_fields(dict(single), None))


def _merge_fields(single: object, multiple: object) -> list[tuple[str, str]]:
    """Return all fields in AWS's order: the values of `multiValueHeaders` first, then those of `headers`.

    A name in both is merged under its spelling in `multiValueHeaders`; a value in both is sent once.
    """
    if single is not None and not isinstance(single, Mapping):
        raise MalformedAnswerError("headers must be an object")
    fields: list[tuple[str, str]] = []
    spellings: dict[str, str] = {}
    if multiple:
        fields, spellings = _read_multiple(multiple)
    has_content_type = "content-type" in spellings
    for name, value in (single or {}).items():
        spelling, lowered = _sent_as(name)
        text = _text(name, value)
        if not spelling:
            continue
        has_content_type = has_content_type or lowered == "content-type"
        field = (spellings.get(lowered, spelling), text)
        if not spellings or field not in fields:
            fields.append(field)
    if not has_content_type:
        fields.insert(0, ("Content-Type", "application/json"))
    return fields


def _read_multiple(multiple: object) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the fields, and the spelling of each name by its lower case."""
    if not isinstance(multiple, Mapping):
        raise MalformedAnswerError("multiValueHeaders must be an object")
    fields: list[tuple[str, str]] = []
    spellings: dict[str, str] = {}
    for name, values in multiple.items():
        if not isinstance(values, list):
            raise MalformedAnswerError(f"multiValueHeaders.{name} must be a list")
        spelling, lowered = _sent_as(name)
        texts = [_text(name, value) for value in values]
        if spelling and texts:
            spelling = spellings.setdefault(lowered, spelling)
            fields += [(spelling, text) for text in texts]
    return fields, spellings


@lru_cache(maxsize=1024)
def _sent_as(name: str) -> tuple[str, str]:
    """Return the name under which a function's field is sent (empty: not sent), and its name in lower case.

    Raises:
        MalformedAnswerError: it is not a valid name of a field.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise MalformedAnswerError(f"{name!r} is not a header name")
    lowered = name.lower()
    if lowered in _DROPPED:
        return "", lowered
    return (f"x-amzn-Remapped-{name}", f"x-amzn-remapped-{lowered}") if lowered in _REMAPPED else (name, lowered)


def _text(name: str, value: object) -> str:
    """Return a field's value as it is sent; reject values that could end the field early."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise MalformedAnswerError(f"header {name!r} must be text, got {type(value).__name__}")
    if not (value.isascii() and value.isprintable()) and _VALUE.fullmatch(value) is None:
        raise MalformedAnswerError(f"header {name!r} contains a character that headers must not contain")
    return value
