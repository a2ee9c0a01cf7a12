"""A captured request that can be sent again: a `Sample`, and its line `{"turnout_capture": {...}}`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.protocol.aws.events import LENGTH_HEADER
from turnout.protocol.codecs.bodies import read_body
from turnout.protocol.codecs.content_encoding import inflate
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.json_constants import SPELLED, read_with_constants

try:
    import pybase64 as base64
except ImportError:  # pragma: no cover - a layer without it is slower, 1 ms per 600 KB
    import base64  # type: ignore[no-redef]

CAPTURE_KEY = "turnout_capture"
"""The only key of a line's object."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request without its answer: versions are immutable, so its version gives the same answer again.

    Args:
        time: when it was answered, in seconds since 1970.
        stage: the called stage.
        model: the model that answered.
        version: the version that answered.
        canary: whether it was in the canary's share.
        content_type: as sent, or empty.
        header_length: bytes of JSON before binary tensors; None if the body is all JSON.
        body: the decompressed body.
        status: status of the answer.
        duration_ms: duration until the answer.
        resource: the route's path as in API Gateway, `/models/iris/inference`; empty in older captures.
        caller: the consumer of the sent key, or empty.
        asynchronous: whether it is an asynchronous request.
    """

    time: float
    stage: str
    model: str
    version: str
    canary: bool
    content_type: str
    header_length: int | None
    body: bytes
    status: int
    duration_ms: float
    resource: str = ""
    caller: str = ""
    asynchronous: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that are needed to read the request again."""
        sent = {"content-type": self.content_type} if self.content_type else {}
        return sent if self.header_length is None else sent | {LENGTH_HEADER: str(self.header_length)}


def make_sample(
    headers: Mapping[str, str],
    body: bytes,
    redact: Collection[str] = (),
    *,
    time: float,
    stage: str,
    model: str,
    version: str,
    canary: bool,
    status: int,
    duration_ms: float,
    resource: str,
    caller: str = "",
) -> Sample | None:
    """Return the sample of a request; None if none can be kept.

    It cannot be kept if its content encoding is invalid, or if a rejected request has inputs to redact: the positions
    of its values are unknown.

    Args:
        headers: with names in lower case.
        body: as sent.
        redact: inputs whose values are replaced, numbers by 0 and texts by empty ones; their shapes stay.
        time: this and the following arguments are those of `Sample`.
        stage: stage of the request.
        model: the model that answered.
        version: the version that answered.
        canary: whether it was in the canary's share.
        status: status of the answer.
        duration_ms: duration until the answer.
        resource: route of the request.
        caller: caller of the request.
    """
    if redact and status != 200:
        return None
    try:
        if "content-encoding" in headers:
            body = inflate(headers["content-encoding"], body)
            headers = {name: value for name, value in headers.items() if name != "content-encoding"}
        if redact:
            length, body = _redacted(headers, body, redact)
        else:
            said = headers.get(LENGTH_HEADER, "")
            length = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None
    except (RequestError, orjson.JSONDecodeError):
        return None
    content_type = headers.get("content-type", "")
    sent = content_type, length, body
    return Sample(time, stage, model, version, canary, *sent, status, duration_ms, resource, caller)


def write_line(sample: Sample) -> bytes:
    """Return the sample as one line of JSON without its line end: a JSON body as it is, any other in base64."""
    fields: dict[str, Any] = {
        "time": round(sample.time, 3),
        "stage": sample.stage,
        "model": sample.model,
        "version": sample.version,
        "canary": sample.canary,
        "status": sample.status,
        "duration_ms": round(sample.duration_ms, 3),
        "resource": sample.resource,
        "content_type": sample.content_type,
    }
    if sample.asynchronous:
        fields["asynchronous"] = True
    if sample.header_length is not None:
        fields["header_length"] = sample.header_length
    if sample.caller:
        fields["caller"] = sample.caller
    return orjson.dumps({CAPTURE_KEY: fields | _spelled_body(sample)})


def _spelled_body(sample: Sample) -> dict[str, Any]:
    if sample.header_length is None:
        with suppress(orjson.JSONDecodeError):
            return {"body": orjson.loads(sample.body)}
    return {"body_base64": base64.b64encode(sample.body).decode()}


def _redacted(headers: Mapping[str, str], body: bytes, names: Collection[str]) -> tuple[int | None, bytes]:
    """Return the JSON's length, or None without binary tensors, and the body without the inputs' values."""
    text, part = read_body(headers, body)
    document = _bare(read_with_constants(text, SPELLED))
    if part is None:
        _redact_document(document, names)
        return None, orjson.dumps(document)
    tail = _redact_binary(document["inputs"], body[len(text) :], names)
    text = orjson.dumps(document)
    return len(text), text + tail


def _bare(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without fields that may identify a person: ids, parameters and other fields of a client."""
    kept = {key: value for key, value in document.items() if key in {"inputs", "instances", "outputs"}}
    kept |= _parameters(document, {"binary_data_output"})
    for key, fields in (("inputs", {"name", "shape", "datatype", "data"}), ("outputs", {"name"})):
        if isinstance(kept.get(key), list):
            kept[key] = [
                {name: value for name, value in tensor.items() if name in fields}
                | _parameters(tensor, _TENSOR_PARAMETERS)
                for tensor in kept[key]
            ]
    return kept


_TENSOR_PARAMETERS = frozenset({"binary_data_size", "binary_data", "content_type"})


def _parameters(fields: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return only the parameters that affect how a request is read and answered."""
    parameters = fields.get("parameters")
    kept = {name: value for name, value in parameters.items() if name in names} if isinstance(parameters, dict) else {}
    return {"parameters": kept} if kept else {}


def _redact_document(document: dict[str, Any], names: Collection[str]) -> None:
    inputs, instances = document.get("inputs"), document.get("instances")
    if isinstance(inputs, list):
        for tensor in inputs:
            if tensor["name"] in names:
                tensor["data"] = _blank(tensor["data"])
    elif isinstance(inputs, dict):
        for name in inputs.keys() & set(names):
            inputs[name] = _blank(inputs[name])
    elif isinstance(instances, list):
        # Unnamed rows do not say which input they belong to.
        document["instances"] = [
            {name: _blank(value) if name in names else value for name, value in instance.items()}
            if isinstance(instance, dict)
            else _blank(instance)
            for instance in instances
        ]


def _redact_binary(inputs: list[dict[str, Any]], tail: bytes, names: Collection[str]) -> bytes:
    """Return the bytes after the JSON; the inputs' sizes in the document are updated if they change."""
    parts = []
    position = 0
    for tensor in inputs:
        parameters = tensor.get("parameters") or {}
        size = parameters.get("binary_data_size")
        part = tail[position : position + (size or 0)]
        position += len(part)
        if tensor["name"] in names:
            if size is None:
                tensor["data"] = _blank(tensor["data"])
            elif tensor["datatype"] == "BYTES":
                part = bytes(4 * math.prod(tensor["shape"]))  # the four length bytes of each element, all zero
                parameters["binary_data_size"] = len(part)
            else:
                part = bytes(size)
        parts.append(part)
    return b"".join(parts)


def _blank(values: Any) -> Any:
    """Return nested lists of the same shape without their values; a text among numbers means NaN or infinity."""
    return _filled(values, "" if _is_text(values) else 0)


def _is_text(values: Any) -> bool:
    return all(map(_is_text, values)) if isinstance(values, list) else isinstance(values, str)


def _filled(values: Any, value: str | int) -> Any:
    if isinstance(values, list):
        return [_filled(inner, value) for inner in values]
    return False if isinstance(values, bool) else value
