"""Reads requests into arrays, and writes arrays as answers in the request's form.

A new form needs one entry of `CODECS`, and its test in `_form_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.protocol.codecs.bodies import read_body
from turnout.protocol.codecs.open_inference import read_open, write_open
from turnout.protocol.codecs.requests import InferenceRequest, Payload
from turnout.protocol.codecs.responses import FEW_ELEMENTS, Answer, check_body, check_counts, check_elements
from turnout.protocol.codecs.short_forms import read_named, read_rows, write_named, write_rows
from turnout.protocol.errors import RequestError, shown
from turnout.protocol.tensors.binary_tensors import BinaryPart
from turnout.protocol.tensors.datatypes import DATATYPES, Array
from turnout.protocol.tensors.interface import Interface, build_interface
from turnout.protocol.tensors.json_constants import read_with_constants
from turnout.protocol.tensors.json_values import may_hold_booleans
from turnout.protocol.tensors.long_lists import LONG_BYTES, NotPlainError, read_document

__all__ = ["CODECS", "Answer", "Codec", "InferenceRequest", "build_interface", "decode_request", "encode_answer"]


@dataclass(frozen=True, slots=True)
class Codec:
    """Reads and writes one form."""

    read: Callable[[Payload, Interface], InferenceRequest]
    write: Callable[[Mapping[str, Array], InferenceRequest, Interface], Answer]


CODECS: Mapping[str, Codec] = {
    "open": Codec(read_open, write_open),
    "named": Codec(read_named, write_named),
    "rows": Codec(read_rows, write_rows),
}


def decode_request(
    headers: Mapping[str, str], body: bytes, interface: Interface, *, long_bytes: int = LONG_BYTES
) -> InferenceRequest:
    """Return one request's tensors, checked against `interface` (see `Interface.free_inputs`), and its answer's form.

    Args:
        headers: with names in lower case.
        body: as sent, in its content encoding.
        interface: interface of the called version.
        long_bytes: length of text from which a tensor's `data` is read by `long_lists`.

    Raises:
        RequestError: an error of the client, with the status 400, 413 or 415.
    """
    text, part = read_body(headers, body)
    if len(text) >= long_bytes and part is None:
        try:
            return _read(read_document(text, long_bytes), text, None, interface)
        except (NotPlainError, RequestError):
            pass  # the slower path below answers or reports what is wrong
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            document = read_with_constants(text)
        except orjson.JSONDecodeError as error:
            raise _not_json(text, error) from None
    return _read(document, text, part, interface)


def _read(document: Any, text: bytes, part: BinaryPart | None, interface: Interface) -> InferenceRequest:
    """Return the request in a document."""
    form = _form_of(document)
    size = len(text) if part is None else len(part)
    request = CODECS[form].read(Payload(document, part, may_hold_booleans(text), size), interface)
    if not interface.free_inputs and len(request.inputs) < len(interface.inputs):
        interface.check_missing(request.inputs)
    if part is not None:
        part.check_finished()
    return request


def _not_json(text: bytes, error: orjson.JSONDecodeError) -> RequestError:
    """Return INVALID_JSON, with the position and the text there."""
    if not text:
        return RequestError("INVALID_JSON", "the body: expected JSON in UTF-8, got nothing")
    try:
        text.decode()
    except UnicodeDecodeError as odd:
        message = f"the body: expected JSON in UTF-8, got the byte {text[odd.start]:#04x} at offset {odd.start}"
        return RequestError("INVALID_JSON", message, offset=odd.start)
    got = error.msg.partition(": line ")[0]
    message = f"the body: expected JSON in UTF-8, got {got} at line {error.lineno} column {error.colno}"
    return RequestError("INVALID_JSON", message, line=error.lineno, column=error.colno)


_FORMS = (
    '{"inputs": [{"name": ..., "shape": ..., "datatype": ..., "data": ...}]}, {"inputs": {name: lists}} or '
    '{"instances": [...]}'
)


def _form_of(document: Any) -> str:
    if type(document) is dict:
        inputs = document.get("inputs")
        if type(inputs) is list and "instances" not in document:
            return "open"
        if type(inputs) is dict and "instances" not in document:
            return "named"
        if "instances" in document and inputs is None:
            return "rows"
    got = shown(document)
    if type(document) is dict:
        got = f"an object with {', '.join(map(shown, list(document)[:10])) or 'nothing'}"
    raise RequestError("INVALID_REQUEST", f"the request: expected {_FORMS}, got {got}", expected=_FORMS, got=got)


def check_sizes(counts: Mapping[str, int], request: InferenceRequest, interface: Interface) -> None:
    """Reject a request before it runs if its answer would exceed Lambda's limit.

    Args:
        counts: output -> its number of elements, if it is known.
        request: result of `decode_request`.
        interface: interface of the version that answers.

    Raises:
        RequestError: ANSWER_TOO_LARGE.
    """
    wanted = {name: count for name, count in counts.items() if not request.outputs or name in request.outputs}
    if sum(wanted.values()) > FEW_ELEMENTS:
        check_counts(
            (
                (count, DATATYPES[interface.outputs[name]].dtype, request.wants_binary(name))
                for name, count in wanted.items()
            ),
            request.largest_bytes,
        )


def encode_answer(outputs: Mapping[str, Array], request: InferenceRequest, interface: Interface) -> Answer:
    """Return the answer's body, in the form of the request.

    Args:
        outputs: at least the requested outputs. Shapes are not checked. BYTES may be `bytes` or `str`.
        request: result of `decode_request`.
        interface: interface of the version that answers.

    Raises:
        RequestError: UNKNOWN_OUTPUT, OUTPUT_NEEDS_BINARY, OUTPUT_WITHOUT_ROWS, ANSWER_TOO_LARGE.
    """
    if request.outputs:
        for name in request.outputs:
            if name not in outputs:
                raise interface.unknown_output(name, outputs)
        outputs = {name: outputs[name] for name in request.outputs}
    elements = 0
    for values in outputs.values():
        elements += values.size
    if elements > FEW_ELEMENTS:
        wanted = ((values, request.wants_binary(name)) for name, values in outputs.items())
        check_elements(wanted, request.largest_bytes)
    answer = CODECS[request.form].write(outputs, request, interface)
    check_body(answer, request.largest_bytes)
    return answer
