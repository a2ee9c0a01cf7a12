"""Valid requests for every route and form, each tagged so that the answer to another request is recognized."""

from __future__ import annotations

import gzip
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from soak.http_client import JSON, Answer, render
from soak.project import WIDTH

BINARY = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"

_TAG = re.compile(rb"soak([0-9a-f]{10})([0-9a-f]{8})")


def make_tag(client: int, number: int) -> str:
    """Return a text that no other request has. Its checksum distinguishes a real tag from a mutated one."""
    digits = f"{client:02x}{number:08x}"
    return f"soak{digits}{zlib.crc32(digits.encode()):08x}"


def find_tags(data: bytes) -> set[str]:
    """Return every real tag in some bytes."""
    return {match[0].decode() for match in _TAG.finditer(data) if f"{zlib.crc32(match[1]):08x}".encode() == match[2]}


@dataclass(frozen=True, slots=True)
class Case:
    """One request.

    Args:
        tag: identifies the request.
        method: HTTP method.
        target: path and query.
        headers: without `Host` and `Content-Length`.
        body: None if there is none.
        values: the numbers that the answer repeats; None if it repeats none.
        shows_tag: whether the answer repeats the tag.
        statuses: the allowed statuses of the answer.
    """

    tag: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    values: tuple[float, ...] | None = None
    shows_tag: bool = False
    statuses: tuple[int, ...] = (200,)

    @property
    def is_head(self) -> bool:
        """Whether the answer has no body."""
        return self.method == "HEAD"

    def render(self) -> bytes:
        """Return the request's bytes."""
        return render(self.method, self.target, self.headers, self.body)

    def check(self, answer: Answer) -> str:
        """Return what is wrong with the answer to this unchanged request; empty if nothing is."""
        if answer.status not in self.statuses:
            return f"status {answer.status} instead of {self.statuses}: {answer.body[:200]!r}"
        if self.shows_tag and not self.is_head and self.tag.encode() not in answer.body:
            return f"the answer lacks the request's tag: {answer.body[:200]!r}"
        if self.values is not None and (values := read_values(answer)) != list(self.values):
            return f"the answer has the values {values[:8]} instead of {list(self.values[:8])}"
        return ""


def read_values(answer: Answer) -> list[float]:
    """Return all numbers in all outputs of an answer of any form."""
    length = answer.fields.get(LENGTH.lower())
    if length is not None:
        tensors = answer.body[int(length) :]
        return list(struct.unpack(f"<{len(tensors) // 4}f", tensors))
    content = orjson.loads(answer.body)
    values: list[float] = []
    outputs = content.get("outputs", content.get("predictions"))
    if isinstance(outputs, list):
        outputs = [output["data"] if isinstance(output, dict) and "data" in output else output for output in outputs]
    todo = [outputs]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += reversed(value.values())
        elif isinstance(value, list):
            todo += reversed(value)
        elif isinstance(value, int | float):
            values.append(value)
    return values


class Cases:
    """An endless sequence of one client's requests.

    Args:
        source: chooses models, routes and forms.
        client: the client's number.
        key: API key of the stage `keyed`.
    """

    def __init__(self, source: random.Random, client: int, key: str) -> None:
        self._random = source
        self._client = client
        self._key = key
        self._count = 0

    def __iter__(self) -> Iterator[Case]:
        while True:
            yield self.draw()

    def draw(self) -> Case:
        """Return the next request."""
        self._count += 1
        tag = make_tag(self._client, self._count)
        if self._random.random() < 0.75:
            return self._infer(tag)
        return self._random.choice(OTHERS)(tag, self._random)

    def _infer(self, tag: str) -> Case:
        source = self._random
        rows = source.choice((1, 1, 1, 2, 7, 300))
        start = self._count % 1_000_000
        values = [start + (number % 4) / 4 for number in range(rows * WIDTH - 1)] + [self._client]
        model = source.choice(("echo", "echo", "count", "changed", "weighed", "chained"))
        datatype = "FP32"
        if model == "count":
            datatype, values = "INT64", [float(int(value)) for value in values]
        headers, body, shows_tag = source.choice(FORMS)(tag, datatype, values)
        target, extra = self._target(model)
        if source.random() < 0.15:
            headers, body = (*headers, ("Content-Encoding", "gzip")), gzip.compress(body, 1, mtime=0)
        return Case(tag, "POST", target, (*headers, *extra), body, tuple(values), shows_tag)

    def _target(self, model: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        source = self._random
        stage, extra = source.choice((("", ()), ("/dev", ()), ("/keyed", (("x-api-key", self._key),))))
        versions = {"chained": ("",), "echo": ("", "v1", "v2"), "weighed": ("", "v1", "v2")}.get(model, ("", "v1"))
        version = source.choice(versions)
        if source.random() < 0.3:
            inside = f"/versions/{version}" if version else ""
            return f"{stage}/v2/models/{model}{inside}/infer", extra
        return f"{stage}/models/{model}{f'/{version}' if version else ''}/inference", extra


Form = Callable[[str, str, list[float]], tuple[tuple[tuple[str, str], ...], bytes, bool]]


def _numbers(datatype: str, values: list[float]) -> list[Any]:
    return [int(value) for value in values] if datatype == "INT64" else list(values)


def _nested(datatype: str, values: list[float]) -> list[Any]:
    numbers = _numbers(datatype, values)
    return [numbers[start : start + WIDTH] for start in range(0, len(numbers), WIDTH)]


def _tensor(datatype: str, values: list[float], **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [len(values) // WIDTH, WIDTH], "datatype": datatype, **more}


def _flat(tag: str, datatype: str, values: list[float]) -> tuple[tuple[tuple[str, str], ...], bytes, bool]:
    content = {"id": tag, "inputs": [_tensor(datatype, values, data=_numbers(datatype, values))]}
    return (JSON,), orjson.dumps(content), True


def _rows(tag: str, datatype: str, values: list[float]) -> tuple[tuple[tuple[str, str], ...], bytes, bool]:
    tensor = _tensor(datatype, values, data=_nested(datatype, values), parameters={"note": tag})
    content = {"inputs": [tensor], "outputs": [{"name": "y"}], "id": tag, "parameters": {"note": tag}}
    return (JSON,), orjson.dumps(content, option=orjson.OPT_INDENT_2), True


def _named(tag: str, datatype: str, values: list[float]) -> tuple[tuple[tuple[str, str], ...], bytes, bool]:
    return (JSON,), orjson.dumps({"inputs": {"x": _nested(datatype, values)}, "id": tag}), False


def _instances(_tag: str, datatype: str, values: list[float]) -> tuple[tuple[tuple[str, str], ...], bytes, bool]:
    return (JSON,), orjson.dumps({"instances": _nested(datatype, values)}), False


def _binary(tag: str, datatype: str, values: list[float]) -> tuple[tuple[tuple[str, str], ...], bytes, bool]:
    kind = "q" if datatype == "INT64" else "f"
    tensor = struct.pack(f"<{len(values)}{kind}", *_numbers(datatype, values))
    tensor_fields = _tensor(datatype, values, parameters={"binary_data_size": len(tensor)})
    content: dict[str, Any] = {"id": tag, "inputs": [tensor_fields]}
    if datatype == "FP32":
        content["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    header = orjson.dumps(content)
    return (("Content-Type", BINARY), (LENGTH, str(len(header)))), header + tensor, True


FORMS: tuple[Form, ...] = (_flat, _rows, _named, _instances, _binary)


def _text(tag: str, source: random.Random) -> Case:
    texts = [tag, "größe ☃ \U0001f600", "", tag * source.choice((1, 50))]
    if source.random() < 0.5:
        content: dict[str, Any] = {"instances": texts}
    else:
        content = {"inputs": [{"name": "x", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
    return Case(tag, "POST", "/models/text/inference", (JSON,), orjson.dumps(content), None, shows_tag=True)


def _catalogue(tag: str, source: random.Random) -> Case:
    path = source.choice(
        (
            *(
                "/models",
                "/models/echo",
                "/models/echo/v1",
                "/models/chained",
                "/openapi.json",
                "/v2",
                "/v2/health/live",
            ),
            *("/health/live", "/health/ready", "/dev/health/live", "/v2/models/text", "/v2/models/echo/versions/v1"),
        )
    )
    return Case(tag, source.choice(("GET", "HEAD")), f"{path}?note={tag}", (("X-Note", tag),))


def _unknown(tag: str, source: random.Random) -> Case:
    path, status, shows = source.choice(
        (
            ("/models/{}", 404, True),
            ("/v2/models/{}", 404, True),
            ("/{}/x", 403, False),
            ("/models/{}/inference", 403, False),
        )
    )
    method = "POST" if path.endswith("inference") else "GET"
    return Case(tag, method, path.format(tag), (), b"{}" if method == "POST" else None, None, shows, (status,))


def _wrong(tag: str, source: random.Random) -> Case:
    tensor = {"name": tag, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    body = orjson.dumps({"inputs": [tensor]})
    path = source.choice(("/models/echo/inference", "/models/weighed/inference", "/v2/models/changed/infer"))
    return Case(tag, "POST", path, (JSON,), body, None, shows_tag=True, statuses=(400,))


def _service(tag: str, source: random.Random) -> Case:
    path = source.choice(("/restapis", "/turnout/metrics?stage=dev"))
    return Case(tag, "GET", f"{path}{'&' if '?' in path else '?'}note={tag}")


def _invocation(tag: str, _source: random.Random) -> Case:
    content = {"id": tag, "inputs": {"x": [[1, 2, 3, 4]]}}
    event = {
        "resource": "/models/echo/v1/inference",
        "path": "/models/echo/v1/inference",
        "httpMethod": "POST",
        "headers": {"content-type": "application/json"},
        "multiValueHeaders": {"content-type": ["application/json"]},
        "body": orjson.dumps({**content, "note": tag}).decode(),
        "isBase64Encoded": False,
        "requestContext": {"requestId": tag, "stage": "dev"},
        "stageVariables": {"alias": "live"},
    }
    target = "/2015-03-31/functions/turnout-local_echo_v1/invocations"
    return Case(tag, "POST", target, (JSON,), orjson.dumps(event))


OTHERS: tuple[Callable[[str, random.Random], Case], ...] = (
    *(_text, _catalogue, _unknown, _wrong, _service, _invocation),
)
