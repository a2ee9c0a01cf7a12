"""For any client input, the function answers, and never with a 5xx."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_lambdas.function.handler import ModelFunction
from tests.builders.model_functions import binary_request, call, identity, proxy_event, read_reply

SETTINGS = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module", params=["FP32", "INT64", "BYTES", "BOOL", "BF16"])
def function(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFunction:
    return identity(tmp_path_factory.mktemp("fuzz"), request.param, (-1, 2))


def check(function: ModelFunction, body: bytes, headers: dict[str, str] | None = None) -> int:
    reply = call(function, body, headers)
    assert reply.status < 500, reply.json
    if reply.status != 200:
        assert set(reply.json) == {"error", "code", "details"}
        assert len(reply.json["error"]) < 2000
    return reply.status


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["NaN", "Infinity", "x", "y", "FP32", "BYTES", "é\0", ""])
    | st.text(max_size=5)
)
KEYS = st.sampled_from(
    ["inputs", "outputs", "instances", "id", "parameters", "name", "shape", "datatype", "data", "x", "y",
     "binary_data_size", "binary_data_output", "binary_data", "signature_name", "model_name"]
)  # fmt: skip
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


@SETTINGS
@given(body=st.binary(max_size=200), headers=st.dictionaries(
    st.sampled_from(["content-type", "Content-Encoding", "Inference-Header-Content-Length", "x"]),
    st.sampled_from(["application/json", "application/octet-stream", "gzip", "deflate", "0", "5", "-1", "é", ""]),
))  # fmt: skip
def test_arbitrary_bytes_are_answered(function: ModelFunction, body: bytes, headers: dict[str, str]) -> None:
    assert check(function, body, headers) != 200


@SETTINGS
@given(JSON)
def test_arbitrary_json_is_answered(function: ModelFunction, value: Any) -> None:
    check(function, dumps(value))


@SETTINGS
@given(JSON)
def test_arbitrary_inputs_are_answered(function: ModelFunction, value: Any) -> None:
    check(function, dumps({"inputs": {"x": value}}))
    check(function, dumps({"instances": value}))
    check(function, dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": value}]}))


@SETTINGS
@given(st.text(max_size=100), st.booleans())
def test_arbitrary_events_are_answered(function: ModelFunction, body: str, encoded: bool) -> None:
    reply = read_reply(function(proxy_event(body, isBase64Encoded=encoded), None))
    assert 400 <= reply.status < 500


WHOLE = {
    "id": "1",
    "parameters": {"binary_data_output": False},
    "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0], "parameters": {}}],
    "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    results = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        results += paths(inner, (*path, key))
    return results


@SETTINGS
@given(st.sampled_from(paths(WHOLE)), JSON, st.booleans())
def test_a_valid_request_with_one_change_is_answered(
    function: ModelFunction, path: tuple[Any, ...], value: Any, gone: bool
) -> None:
    datatype = next(iter(function.spec.signature.inputs)).datatype
    good = {"BYTES": ["a", "b"], "BOOL": [True, False], "INT64": [1, 2]}.get(datatype, [1.0, 2.0])
    request = copy.deepcopy(WHOLE)
    request["inputs"][0] |= {"datatype": datatype, "data": good}  # type: ignore[index]
    assert check(function, orjson.dumps(request)) == 200
    holder: Any = request
    for key in path[:-1]:
        holder = holder[key]
    if gone:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    check(function, dumps(request))


@SETTINGS
@given(
    raw=st.binary(max_size=40),
    shape=st.lists(st.integers(0, 4), max_size=3),
    size=st.integers(-1, 50),
    length=st.integers(-2, 5),
    tail=st.binary(max_size=4),
)
def test_arbitrary_binary_requests_are_answered(
    function: ModelFunction, raw: bytes, shape: list[int], size: int, length: int, tail: bytes
) -> None:
    datatype = next(iter(function.spec.signature.inputs)).datatype
    body, headers = binary_request(raw, shape, datatype, parameters={"binary_data_output": True})
    check(function, body, headers)
    lying = body.replace(b'"binary_data_size":%d' % len(raw), b'"binary_data_size":%d' % size)
    headers["Inference-Header-Content-Length"] = str(len(lying) - len(raw) + length)
    check(function, lying + tail, headers)


@SETTINGS
@given(st.data())
def test_a_valid_body_with_changed_bytes_is_answered(function: ModelFunction, data: st.DataObject) -> None:
    body = bytearray(orjson.dumps({"inputs": {"x": [[1.5, 2], [3, 4]]}, "id": "a", "outputs": ["y"]}))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    check(function, bytes(body[: data.draw(st.integers(0, len(body)))]))
