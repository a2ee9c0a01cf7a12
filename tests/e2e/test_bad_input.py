"""Whatever a client sends to a running server: the answer is a 4xx with a code and a sentence, and the next request
succeeds.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders.running_server import Answer, Client, RunningServer

PATH = "/models/iris/v1/inference"
ROW = {"name": "measurements", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
GOOD = {"inputs": [ROW]}

MAGIC = 10_000
"""The nesting depth of the deepest body."""


def request_with(**changes: Any) -> dict[str, Any]:
    """Return a valid request with its input changed; `...` removes a key."""
    changed = {key: value for key, value in {**ROW, **changes}.items() if value is not ...}
    return {"inputs": [changed]}


def check_good(client: Client) -> None:
    answer = client.post(PATH, GOOD)
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [0]


def check_refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    body = answer.json()
    assert body.keys() == {"error", "code", "details"}
    assert body["code"] == code
    assert len(body["error"]) > 10
    assert "Traceback" not in body["error"]
    assert answer.headers["x-turnout-model"] == "iris"
    assert answer.headers["content-type"] == "application/json"


BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "INVALID_JSON"),
    "blank": (b"  \n ", 400, "INVALID_JSON"),
    "truncated": (orjson.dumps(GOOD)[:-3], 400, "INVALID_JSON"),
    "truncated in a number": (b'{"inputs": {"measurements": [[1.', 400, "INVALID_JSON"),
    "two values": (orjson.dumps(GOOD) * 2, 400, "INVALID_JSON"),
    "not json": (b"measurements=1,2,3,4", 400, "INVALID_JSON"),
    "python": (b"{'inputs': {}}", 400, "INVALID_JSON"),
    "nan literal": (b'{"inputs": {"measurements": [[nan, 1, 2, 3]]}}', 400, "INVALID_JSON"),
    "invalid utf-8": (b'{"inputs": {"measurements\xff": [[1, 2, 3, 4]]}}', 400, "INVALID_JSON"),
    "utf-8 cut short": (b'{"id": "\xe2\x82', 400, "INVALID_JSON"),
    "a lone surrogate": (b'{"id": "\\ud800", "inputs": {"measurements": [[1, 2, 3, 4]]}}', 400, "INVALID_JSON"),
    "utf-16": (orjson.dumps(GOOD).decode().encode("utf-16"), 400, "INVALID_JSON"),
    "nul bytes": (b"\x00" * 100, 400, "INVALID_JSON"),
    "lists nested deeply": (b"[" * MAGIC + b"]" * MAGIC, 400, "INVALID_JSON"),
    "lists opened and never closed": (b"[" * 1_000_000, 400, "INVALID_JSON"),
    "objects nested deeply": (b'{"a":' * MAGIC + b"1" + b"}" * MAGIC, 400, "INVALID_JSON"),
    "null": (b"null", 400, "INVALID_REQUEST"),
    "a number": (b"7", 400, "INVALID_REQUEST"),
    "a text": (b'"inputs"', 400, "INVALID_REQUEST"),
    "a list": (b"[]", 400, "INVALID_REQUEST"),
    "an empty object": (b"{}", 400, "INVALID_REQUEST"),
    "inputs null": (b'{"inputs": null}', 400, "INVALID_REQUEST"),
    "inputs a number": (b'{"inputs": 3}', 400, "INVALID_REQUEST"),
    "both forms": (b'{"inputs": {}, "instances": []}', 400, "INVALID_REQUEST"),
    "an unknown field": (b'{"inputz": []}', 400, "INVALID_REQUEST"),
}


@pytest.mark.parametrize(("body", "status", "code"), BODIES.values(), ids=BODIES.keys())
def test_an_invalid_body_is_rejected(sample: RunningServer, body: bytes, status: int, code: str) -> None:
    with sample.client() as client:
        check_refused(client.post(PATH, body), status, code)
        check_good(client)


REQUESTS: dict[str, tuple[Any, int, str]] = {
    "no inputs": ({"inputs": []}, 400, "MISSING_INPUT"),
    "another input": (request_with(name="other"), 400, "UNKNOWN_INPUT"),
    "one input too many": ({"inputs": [ROW, {**ROW, "name": "other"}]}, 400, "UNKNOWN_INPUT"),
    "one input twice": ({"inputs": [ROW, ROW]}, 400, "DUPLICATE_INPUT"),
    "an output nobody has": ({**GOOD, "outputs": [{"name": "other"}]}, 400, "UNKNOWN_OUTPUT"),
    "another datatype": (request_with(datatype="INT64", data=[1, 2, 3, 4]), 400, "DATATYPE_MISMATCH"),
    "a shape of another rank": (request_with(shape=[4]), 400, "SHAPE_MISMATCH"),
    "a fixed dimension": (request_with(shape=[1, 3], data=[1, 2, 3]), 400, "SHAPE_MISMATCH"),
    "too few values": (request_with(data=[1, 2, 3]), 400, "SHAPE_MISMATCH"),
    "too many values": (request_with(data=[1, 2, 3, 4, 5]), 400, "SHAPE_MISMATCH"),
    "a shape too large for memory": (request_with(shape=[10**15, 4]), 400, "SHAPE_MISMATCH"),
    "a shape past 64 bits": (request_with(shape=[2**62, 4]), 400, "SHAPE_MISMATCH"),
    "uneven nested lists": ({"inputs": {"measurements": [[1, 2, 3, 4], [1, 2, 3]]}}, 400, "SHAPE_MISMATCH"),
    "lists where numbers stand": ({"inputs": {"measurements": [[1, 2, 3, [4]]]}}, 400, "SHAPE_MISMATCH"),
    "a number past FP32": (request_with(data=[1e39, 1, 1, 1]), 400, "VALUE_OUT_OF_RANGE"),
    "a text for a number": (request_with(data=["5.1", 1, 1, 1]), 400, "INVALID_VALUE"),
    "a boolean for a number": (request_with(data=[True, 1, 1, 1]), 400, "INVALID_VALUE"),
    "an object for a number": (request_with(data=[{}, 1, 1, 1]), 400, "INVALID_VALUE"),
}


@pytest.mark.parametrize(("request_", "status", "code"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_mismatching_request_is_rejected(sample: RunningServer, request_: Any, status: int, code: str) -> None:
    with sample.client() as client:
        check_refused(client.post(PATH, request_), status, code)
        check_good(client)


ODD: dict[str, bytes] = {
    "no datatype": orjson.dumps(request_with(datatype=...)),
    "a datatype nobody knows": orjson.dumps(request_with(datatype="FLOAT")),
    "a datatype that is a number": orjson.dumps(request_with(datatype=1)),
    "no name": orjson.dumps(request_with(name=...)),
    "a name that is null": orjson.dumps(request_with(name=None)),
    "no shape": orjson.dumps(request_with(shape=...)),
    "a shape of -1": orjson.dumps(request_with(shape=[-1, 4])),
    "a shape of fractions": orjson.dumps(request_with(shape=[1.0, 4])),
    "a shape of booleans": orjson.dumps(request_with(shape=[True, 4])),
    "a shape of texts": orjson.dumps(request_with(shape=["1", "4"])),
    "a shape of a thousand": orjson.dumps(request_with(shape=[1] * 1000 + [4])),
    "a number past 64 bits in the shape": orjson.dumps(request_with()).replace(b"[1,4]", b"[1" + b"0" * 400 + b",4]"),
    "no data": orjson.dumps(request_with(data=...)),
    "data an object": orjson.dumps(request_with(data={"0": 1})),
    "data a text": orjson.dumps(request_with(data="1,2,3,4")),
    "a number past FP64": orjson.dumps(request_with()).replace(b"5.1", b"1e400"),
    "a whole number of 400 digits": orjson.dumps(request_with()).replace(b"5.1", b"1" + b"0" * 400),
    "parameters a list": orjson.dumps(request_with(parameters=[])),
    "binary data without binary": orjson.dumps(request_with(data=..., parameters={"binary_data_size": 16})),
    "an id that is a list": orjson.dumps({**GOOD, "id": [1]}),
    "outputs a text": orjson.dumps({**GOOD, "outputs": "label"}),
    "instances a number": b'{"instances": 4}',
    "instances of nothing": b'{"instances": [null]}',
    "instances that differ": b'{"instances": [[1, 2, 3, 4], {"measurements": [1, 2, 3, 4]}]}',
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD.keys())
def test_an_unusual_request_is_a_client_error(sample: RunningServer, body: bytes) -> None:
    with sample.client() as client:
        answer = client.post(PATH, body)
        assert 400 <= answer.status < 500, answer.body
        assert answer.json()["code"]
        check_good(client)


# --- content types and encodings


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({"content-type": "text/html"}, {415}),
        ({"content-type": "application/xml"}, {415}),
        ({"content-type": "multipart/form-data; boundary=x"}, {415}),
        ({"content-type": "application/octet-stream"}, {400, 415}),  # no Inference-Header-Content-Length
        ({"content-type": "application/json; charset=utf-16"}, {200, 400, 415}),
        ({"content-type": "x" * 5000}, {415}),
        ({"content-type": "application/json", "content-encoding": "gzip"}, {400, 415}),
        ({"content-type": "application/json", "content-encoding": "nothing"}, {400, 415}),
        ({"content-type": "application/json", "inference-header-content-length": "7"}, {400}),
    ],
)
def test_a_wrong_content_type_is_a_client_error(
    sample: RunningServer, headers: Mapping[str, str], statuses: set[int]
) -> None:
    with sample.client() as client:
        answer = client.request("POST", PATH, orjson.dumps(GOOD), headers)
        assert answer.status in statuses, answer.body
        check_good(client)


def test_a_compressed_body_is_never_a_500(sample: RunningServer) -> None:
    bomb = gzip.compress(b"[" * 50_000_000)
    with sample.client() as client:
        answer = client.post(PATH, bomb, content_encoding="gzip")
        assert 400 <= answer.status < 500
        check_good(client)


# --- the binary form

VALUES = np.array([5.1, 3.5, 1.4, 0.2], "<f4").tobytes()


def binary(size: Any = 16, tail: bytes = VALUES, length: str | None = None, **changes: Any) -> tuple[bytes, str]:
    """Return a binary request, possibly with wrong lengths, and its header."""
    head = orjson.dumps(request_with(**{"data": ..., "parameters": {"binary_data_size": size}, **changes}))
    return head + tail, str(len(head)) if length is None else length


BINARY = {
    "too few bytes": binary(tail=VALUES[:15]),
    "too many bytes": binary(tail=VALUES + b"\x00"),
    "no bytes": binary(tail=b""),
    "a size that is too small": binary(size=12),
    "a size that is too large": binary(size=2**63),
    "a negative size": binary(size=-16),
    "a size that is a fraction": binary(size=16.0),
    "a size that is a text": binary(size="16"),
    "a size that is null": binary(size=None),
    "a header longer than the body": binary(length="1000000"),
    "a header of nothing": binary(length="0"),
    "a negative header": binary(length="-1"),
    "a header that is a text": binary(length="all"),
    "a header past 64 bits": binary(length="9" * 400),
    "a header that cuts the json": binary(length="20"),
    "a header with an underscore": binary(length="1_0"),
    "another shape": binary(shape=[2, 4]),
    "data beside the size": binary(data=[1, 2, 3, 4]),
}


@pytest.mark.parametrize(("body", "length"), BINARY.values(), ids=BINARY.keys())
def test_wrong_binary_lengths_are_rejected(sample: RunningServer, body: bytes, length: str) -> None:
    with sample.client() as client:
        answer = client.post(
            PATH, body, content_type="application/octet-stream", inference_header_content_length=length
        )
        assert answer.status == 400, answer.body
        assert answer.json()["code"] in {"INVALID_BINARY", "INVALID_JSON", "SHAPE_MISMATCH", "INVALID_REQUEST"}
        check_good(client)


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<I", 100) + b"short",
        struct.pack("<I", 2**32 - 1),
        b"\x01\x00",
        struct.pack("<I", 1) + b"\xff",
        struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b",
        b"",
    ],
)
def test_wrong_text_lengths_are_rejected(sample: RunningServer, tail: bytes) -> None:
    path = "/models/spam/v1/inference"
    described = {"name": "text", "shape": [1], "datatype": "BYTES"}
    head = orjson.dumps({"inputs": [{**described, "parameters": {"binary_data_size": len(tail)}}]})
    with sample.client() as client:
        answer = client.post(
            path,
            head + tail,
            content_type="application/octet-stream",
            inference_header_content_length=str(len(head)),
        )
        assert answer.status == 400, answer.body
        assert answer.json()["code"] in {"INVALID_BINARY", "INVALID_VALUE", "SHAPE_MISMATCH"}
        check_good(client)


# --- sizes


EVENT_TOO_LARGE = b'{"message": "Request Too Long"}'
BODY_TOO_LARGE = b"HTTP content length exceeded 10485760 bytes."


@pytest.mark.parametrize(
    ("megabytes", "expected"), [(6.5, EVENT_TOO_LARGE), (9.5, EVENT_TOO_LARGE), (10.5, BODY_TOO_LARGE)]
)
def test_a_body_that_is_too_large_gets_a_413(sample: RunningServer, megabytes: float, expected: bytes) -> None:
    body = b'{"inputs": {"measurements": [' + b" " * int(megabytes * 2**20) + b"[1, 2, 3, 4]]}}"
    answer = sample.post(PATH, body)
    assert (answer.status, answer.body) == (413, expected)
    with sample.client() as client:
        check_good(client)


def test_an_answer_that_is_too_large_gets_a_413_that_says_so(variants: RunningServer) -> None:
    # 2.8 MB of binary become 7 MB of JSON.
    values = np.sqrt(np.arange(700_000, dtype="<f4")).tobytes()
    described = {"name": "x", "shape": [175_000, 4], "datatype": "FP32"}
    head = orjson.dumps({"inputs": [{**described, "parameters": {"binary_data_size": len(values)}}]})
    answer = variants.post(
        "/models/echo/inference",
        head + values,
        content_type="application/octet-stream",
        inference_header_content_length=str(len(head)),
    )
    assert (answer.status, answer.json()["code"]) == (413, "ANSWER_TOO_LARGE")
    assert "in binary" in answer.json()["error"]
    small = {"inputs": [{**described, "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    assert variants.post("/models/echo/inference", small).status == 200


# --- generated

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "NaN", "Infinity", "FP32", "measurements", "BYTES", "é", "\x00"])
    | st.sampled_from([2**31, 2**63, -(2**63), 0, -1])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ROW, "inputs", "parameters", "x"]), inner)
    ),
    max_leaves=8,
)


def check_never_ours(client: Client, answer: Answer) -> None:
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        assert answer.json()["code"]
    check_good(client)


@SETTINGS
@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_do_not_break_the_server(sample: RunningServer, body: bytes) -> None:
    with sample.client() as client:
        check_never_ours(client, client.post(PATH, body))


@SETTINGS
@given(key=st.sampled_from([*ROW, "parameters", "extra"]), value=JSON)
def test_arbitrary_input_values_do_not_break_the_server(sample: RunningServer, key: str, value: Any) -> None:
    with sample.client() as client:
        check_never_ours(client, client.post(PATH, request_with(**{key: value})))


@SETTINGS
@given(key=st.sampled_from(["inputs", "outputs", "instances", "id", "parameters", "extra"]), value=JSON)
def test_arbitrary_request_values_do_not_break_the_server(sample: RunningServer, key: str, value: Any) -> None:
    with sample.client() as client:
        check_never_ours(client, client.post(PATH, {**GOOD, key: value}))


@SETTINGS
@given(value=JSON)
def test_arbitrary_short_forms_do_not_break_the_server(sample: RunningServer, value: Any) -> None:
    with sample.client() as client:
        check_never_ours(client, client.post(PATH, {"instances": value}))
        check_never_ours(client, client.post(PATH, {"inputs": {"measurements": value}}))


@SETTINGS
@given(
    tail=st.binary(max_size=40),
    size=st.integers(-1, 50) | JSON,
    length=st.integers(-1, 300).map(str) | st.none() | st.text("0123456789-+. abc", max_size=6),
    cut=st.integers(0, 120),
)
def test_arbitrary_binary_requests_do_not_break_the_server(
    sample: RunningServer, tail: bytes, size: Any, length: str | None, cut: int
) -> None:
    body, said = binary(size=size, tail=tail, length=length)
    with sample.client() as client:
        answer = client.post(
            PATH, body[cut // 10 :], content_type="application/octet-stream", inference_header_content_length=said
        )
        check_never_ours(client, answer)


@SETTINGS
@given(
    name=st.sampled_from(["content-type", "accept", "inference-header-content-length", "content-encoding", "x-odd"]),
    value=st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=40),
)
def test_arbitrary_headers_do_not_break_the_server(sample: RunningServer, name: str, value: str) -> None:
    headers = {"content-type": "application/json", name: value.encode("latin-1").decode("latin-1")}
    with sample.client() as client:
        check_never_ours(client, client.request("POST", PATH, orjson.dumps(GOOD), headers))


@SETTINGS
@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60), query=st.binary(max_size=10))
def test_arbitrary_paths_do_not_break_the_server(sample: RunningServer, path: str, query: bytes) -> None:
    with sample.client() as client:
        answer = client.request("POST", f"/{path}?{query.hex()}", b"{}")
        assert answer.status < 500
        check_good(client)
