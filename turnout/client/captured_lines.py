"""Reads captured requests: lines of `turnout serve --capture`, and of CloudWatch's logs in any export format."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from turnout.protocol.codecs.samples import CAPTURE_KEY, Sample

__all__ = ["CaptureError", "Line", "Sample", "lines_in", "parse_sample", "read_lines"]

_OBJECT = f'{{"{CAPTURE_KEY}"'
_QUOTED_OBJECT = f'{{\\"{CAPTURE_KEY}\\"'
_DECODER = json.JSONDecoder()
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class CaptureError(ValueError):
    """A line with a captured request cannot be read; the message contains its number and the error."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a capture.

    Args:
        number: from 1.
        size_bytes: including its line ending.
        samples: the samples in it: one, or in an export of CloudWatch any number.
    """

    number: int
    size_bytes: int
    samples: tuple[Sample, ...]


def lines_in(stream: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """Yield the lines in this number of bytes: a server that captures replayed requests would make the file endless."""
    while stream.tell() < size_bytes and (line := stream.readline()):
        yield line


def read_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """Yield every line, in order.

    Raises:
        CaptureError: a line has the key of a captured request, but is incomplete.
    """
    for number, line in enumerate(lines, 1):
        try:
            samples = tuple(_samples_in(line.decode()))
        except (ValueError, RecursionError) as error:
            raise CaptureError(f"line {number}: cannot read the captured request: {error}") from None
        yield Line(number, len(line), samples)


def parse_sample(fields: Any) -> Sample:
    """Return the sample that `turnout.protocol.codecs.samples.write_line` wrote.

    Raises:
        ValueError: the value is not such a sample.
    """
    if not isinstance(fields, Mapping) or not isinstance(fields.get(CAPTURE_KEY), Mapping):
        raise ValueError(f"`{CAPTURE_KEY}` must be an object")  # noqa: TRY004 - all of these are one kind of error
    fields = fields[CAPTURE_KEY]
    return Sample(
        time=_field(fields, "time", float),
        stage=_field(fields, "stage", str),
        model=_field(fields, "model", str),
        version=_field(fields, "version", str),
        canary=_field(fields, "canary", bool),
        content_type=_field(fields, "content_type", str),
        header_length=_field(fields, "header_length", int) if "header_length" in fields else None,
        body=_body(fields),
        status=_field(fields, "status", int),
        duration_ms=_field(fields, "duration_ms", float),
        resource=_field(fields, "resource", str) if "resource" in fields else "",
        caller=_field(fields, "caller", str) if "caller" in fields else "",
        asynchronous=_field(fields, "asynchronous", bool) if "asynchronous" in fields else False,
    )


def _body(fields: Mapping[str, Any]) -> bytes:
    if "body" not in fields:
        return base64.b64decode(_field(fields, "body_base64", str), validate=True)
    try:
        return orjson.dumps(fields["body"])
    except TypeError as error:  # a number of more than 64 bits, a lone surrogate
        raise ValueError(f"`body`: {error}") from None


def _field(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"`{name}` must be {_KINDS[kind]}")
    if isinstance(value, str) and name != "body_base64" and not _SENDABLE.fullmatch(value):
        # The value becomes a header or a part of a path: a line break would start another header.
        raise ValueError(f"`{name}` must contain only Latin-1 characters and no control characters")
    if name == "header_length" and isinstance(value, int) and value < 0:
        raise ValueError("`header_length` must be 0 or more")
    return value


_KINDS: Mapping[type, str] = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _samples_in(text: str) -> Iterator[Sample]:
    """Yield the samples in a line, at any place in it."""
    position = 0
    while True:
        plain, quoted = text.find(_OBJECT, position), text.find(_QUOTED_OBJECT, position)
        if plain < 0 and quoted < 0:
            return
        if quoted < 0 or 0 <= plain < quoted:
            value, position = _DECODER.raw_decode(text, plain)
            yield parse_sample(value)
            continue
        # A log line within JSON, as the AWS CLI prints it: `"message": "{\"turnout_capture\": ..."`.
        start = text.rfind('"', 0, quoted)
        if start < 0:
            raise ValueError("the marker is quoted, but no string begins before it")
        message, position = _DECODER.raw_decode(text, start)
        yield from _samples_in(message)
