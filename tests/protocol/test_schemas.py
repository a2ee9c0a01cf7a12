"""The hand-written schemas of requests, answers and errors, compared with real ones and with the code's tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from turnout.layout import schema_path
from turnout.protocol.codecs.codecs import decode_request, encode_answer
from turnout.protocol.errors import STATUS_OF, RequestError
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.protocol.tensors.interface import build_interface

SCHEMAS = {
    name: json.loads(schema_path(name).read_bytes()) for name in ("inference-request", "inference-response", "error")
}
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}


def is_valid(name: str, value: Any) -> bool:
    return VALIDATORS[name].is_valid(value)


def described(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every schema of a property."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).values()
        for key, value in schema.items():
            if key not in {"examples", "oneOf"}:
                yield from described(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_valid_and_described_everywhere_and_have_valid_examples(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["description"]
    for part in described(schema):
        assert "$ref" in part or part["description"]
    assert schema["examples"]
    assert all(is_valid(name, example) for example in schema["examples"])


def test_datatypes_are_those_of_the_code() -> None:
    for name in ("inference-request", "inference-response"):
        assert SCHEMAS[name]["$defs"]["datatype"]["enum"] == list(DATATYPES)


def test_error_codes_are_those_of_the_code() -> None:
    assert SCHEMAS["error"]["properties"]["code"]["enum"] == list(STATUS_OF)


X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5]}
BINARY = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}

VALID: list[dict[str, Any]] = [
    {"inputs": [X]},
    {"inputs": [{**X, "data": [[1, 2.5]]}], "id": "7", "outputs": [{"name": "y"}]},
    {"inputs": [{**X, "data": ["NaN", None]}], "model_name": "iris", "model_version": "v1"},
    {"inputs": [{**X, "parameters": {"content_type": "np"}}], "parameters": {"binary_data_output": False, "other": 1}},
    {"inputs": [BINARY], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    {"inputs": []},
    {"inputs": [{**X, "shape": [], "data": [1]}]},
    {"inputs": {"x": [[1, 2.5]]}},
    {"inputs": {"x": "text", "y": 1, "z": True}, "id": "7", "outputs": ["y", {"name": "z"}]},
    {"instances": [[1, 2.5], [3, 4]]},
    {"instances": [{"x": [1, 2.5], "y": "text"}], "signature_name": "serving_default"},
    {"instances": [], "outputs": None},
    {"inputs": {"x": 1}, "parameters": {"user_id": "ada"}},
    {"instances": [1], "parameters": None},
]

INVALID: list[Any] = [
    {},
    [],
    None,
    {"inputs": 1},
    {"inputs": [1]},
    {"inputs": [{"name": "x"}]},
    {"inputs": [{**X, "shape": [-1, 2]}]},
    {"inputs": [{**X, "shape": [1.5]}]},
    {"inputs": [{**X, "datatype": "FLOAT"}]},
    {"inputs": [{**X, "name": 1}]},
    {"inputs": [{**X, "parameters": {"binary_data_size": 8}}]},
    {"inputs": [{**BINARY, "parameters": {"binary_data_size": -8}}]},
    {"inputs": [{**BINARY, "parameters": {}}]},
    {"inputs": [{**X, "dtype": "FP32"}]},
    {"inputs": [{**X, "data": {"a": 1}}]},
    {"inputs": [X], "instances": [1]},
    {"inputs": [X], "id": 7},
    {"inputs": [X], "outputs": ["y"]},
    {"inputs": [X], "unknown": 1},
    {"inputs": {"x": {"y": 1}}},
    {"instances": {"x": 1}},
    {"instances": [1], "signature_name": "other"},
    {"inputs": {"x": 1}, "parameters": {"binary_data_output": True}},
]


@pytest.mark.parametrize("request_body", VALID)
def test_valid_request(request_body: dict[str, Any]) -> None:
    assert is_valid("inference-request", request_body)


@pytest.mark.parametrize("request_body", INVALID)
def test_invalid_request(request_body: object) -> None:
    assert not is_valid("inference-request", request_body)


INTERFACE = build_interface(
    Signature(
        (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "FP32", (-1, 2)))
    ),
    "iris",
    "v1",
)


@pytest.mark.parametrize(
    "request_body",
    [
        {"inputs": [X]},
        {"inputs": [{**X, "data": ["NaN", "-Infinity"]}], "id": "7", "outputs": [{"name": "y"}]},
        {"inputs": {"x": [[1, 2.5]]}, "id": "7"},
        {"instances": [[1, 2.5], [3, 4]]},
        {"instances": [{"x": [1, 2.5]}], "outputs": ["y"]},
    ],
)
def test_request_and_its_real_answer_are_valid(request_body: dict[str, Any]) -> None:
    assert is_valid("inference-request", request_body)
    request = decode_request({"content-type": "application/json"}, json.dumps(request_body).encode(), INTERFACE)
    answer = encode_answer({"y": request.inputs["x"], "z": request.inputs["x"]}, request, INTERFACE)
    assert is_valid("inference-response", json.loads(answer.body))


def test_json_of_a_real_binary_answer_is_valid() -> None:
    body = {"inputs": [X], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    request = decode_request({"content-type": "application/json"}, json.dumps(body).encode(), INTERFACE)
    answer = encode_answer({"y": request.inputs["x"]}, request, INTERFACE)
    assert answer.json_length is not None
    head = json.loads(answer.body[: answer.json_length])
    assert "data" not in head["outputs"][0]
    assert is_valid("inference-response", head)


@pytest.mark.parametrize(
    "body",
    [
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1]}]},
        {"model_name": "m", "model_version": "v", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]},
        {"predictions": {"y": 1}},
        {"outputs": {"y": {"z": 1}}},
        {"error": "no"},
    ],
)
def test_invalid_answer(body: dict[str, Any]) -> None:
    assert not is_valid("inference-response", body)


@pytest.mark.parametrize("request_body", INVALID)
def test_requests_that_the_schema_rejects_are_rejected_by_the_code_with_a_valid_error(request_body: object) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request({"content-type": "application/json"}, json.dumps(request_body).encode(), INTERFACE)
    assert is_valid("error", json.loads(json.dumps(caught.value.body())))


@pytest.mark.parametrize(
    "body", [{}, {"error": ""}, {"error": "no", "code": "NEW", "details": {}}, {"message": "Forbidden"}]
)
def test_invalid_error(body: dict[str, Any]) -> None:
    assert not is_valid("error", body)
