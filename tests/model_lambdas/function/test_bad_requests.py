"""Every client error is a 4xx with a code and a sentence, and none reaches the session."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from onnx import helper

from model_lambdas.function.handler import ModelFunction
from tests.builders.graphs import value, write_graph
from tests.builders.model_functions import binary_request, call, make_function, open_request
from turnout.protocol.tensors.datatypes import TensorSpec


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> ModelFunction:
    """A function with inputs a FP32 [-1,2], b INT64 [-1], c BYTES [1], and the same outputs."""
    inputs = [value("a", "FP32", ["n", 2]), value("b", "INT64", ["n"]), value("c", "BYTES", [1])]
    outputs = [value("pa", "FP32", ["n", 2]), value("pb", "INT64", ["n"]), value("pc", "BYTES", [1])]
    nodes = [helper.make_node("Identity", [name], [f"p{name}"]) for name in "abc"]
    artifact = write_graph(tmp_path_factory.mktemp("three") / "model.onnx", nodes, inputs, outputs)
    kinds = [("a", "FP32", (-1, 2)), ("b", "INT64", (-1,)), ("c", "BYTES", (1,))]
    return make_function(
        artifact,
        [TensorSpec(name, datatype, shape) for name, datatype, shape in kinds],
        [TensorSpec(f"p{name}", datatype, shape) for name, datatype, shape in kinds],
    )


def tensor(which: str, /, **changes: Any) -> dict[str, Any]:
    whole = {
        "a": {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        "b": {"name": "b", "shape": [1], "datatype": "INT64", "data": [3]},
        "c": {"name": "c", "shape": [1], "datatype": "BYTES", "data": ["x"]},
    }[which]
    changed = {**whole, **changes}
    return {key: field for key, field in changed.items() if field is not ...}


A, B, C = tensor("a"), tensor("b"), tensor("c")
GOOD = {"inputs": [A, B, C]}
NAMED = {"a": [[1, 2]], "b": [3], "c": ["x"]}


def test_the_valid_request_is_answered(function: ModelFunction) -> None:
    reply = call(function, GOOD)
    assert reply.status == 200
    assert [output["data"] for output in reply.json["outputs"]] == [[1.0, 2.0], [3], ["x"]]
    assert call(function, {"inputs": NAMED}).json == {"outputs": {"pa": [[1.0, 2.0]], "pb": [3], "pc": ["x"]}}
    assert call(function, {"instances": [{"a": [1, 2], "b": 3, "c": "x"}]}).json == {
        "predictions": [{"pa": [1.0, 2.0], "pb": 3, "pc": "x"}]
    }


def test_optional_parts_of_a_request_are_accepted(function: ModelFunction) -> None:
    extras = {"id": "q", "parameters": {"anything": [1], "priority": 3}, "model_name": "test", "model_version": "v1"}
    reply = call(function, {**GOOD, **extras, "outputs": [{"name": "pb"}, {"name": "pa", "parameters": {"x": 1}}]})
    assert [output["name"] for output in reply.json["outputs"]] == ["pb", "pa"]
    assert (reply.json["id"], reply.json["model_name"], reply.json["model_version"]) == ("q", "test", "v1")
    nulls = {"id": None, "parameters": None, "outputs": None, "model_name": None}
    inputs = [{**entry, "parameters": None} for entry in (A, B, C)]
    assert "id" not in call(function, {"inputs": inputs, **nulls}).json
    assert call(function, {"inputs": NAMED, "id": "q", "outputs": ["pb"]}).json == {"outputs": {"pb": [3]}, "id": "q"}
    rows = {
        "instances": [{"a": [1, 2], "b": 3, "c": "x"}],
        "outputs": [{"name": "pb"}],
        "signature_name": "serving_default",
    }
    assert call(function, rows).json == {"predictions": [3]}
    assert call(function, {**rows, "parameters": {"user_id": "ada"}}).json == {"predictions": [3]}
    assert call(function, {"inputs": NAMED, "outputs": ["pb"], "parameters": {"user_id": 1}}).json == {
        "outputs": {"pb": [3]}
    }
    assert call(function, {**GOOD, "outputs": []}).json == call(function, GOOD).json


BAD: list[tuple[Any, str]] = [
    # not JSON
    (b"", "INVALID_JSON"),
    (b"{", "INVALID_JSON"),
    (b'{"inputs": [}', "INVALID_JSON"),
    (b"\xff\xfe{}", "INVALID_JSON"),
    (b'\xef\xbb\xbf{"inputs": []}', "INVALID_JSON"),
    (b'{"inputs": {"a": [["\\ud800", 1]]}}', "INVALID_JSON"),
    (b'{"inputs": {"a": [[nan, 1]]}}', "INVALID_JSON"),
    (b'{"inputs": {"a": [[NaN, 1]}', "INVALID_JSON"),
    (b'{"inputs": {"a": [[1e999, 1]]}}', "INVALID_JSON"),
    (b"[" * 100_000, "INVALID_JSON"),
    (b'{"inputs": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}", "INVALID_JSON"),
    # JSON, but not a request
    (b"null", "INVALID_REQUEST"),
    (b"[]", "INVALID_REQUEST"),
    (b"7", "INVALID_REQUEST"),
    ({}, "INVALID_REQUEST"),
    ({"input": []}, "INVALID_REQUEST"),
    ({"inputs": None}, "INVALID_REQUEST"),
    ({"inputs": "a"}, "INVALID_REQUEST"),
    ({"inputs": [[1, 2]]}, "INVALID_REQUEST"),
    ({"inputs": NAMED, "instances": []}, "INVALID_REQUEST"),
    ({"instances": {}}, "INVALID_REQUEST"),
    ({"instances": 7}, "INVALID_REQUEST"),
    ({**GOOD, "input": 1}, "INVALID_REQUEST"),
    ({"inputs": NAMED, "parameters": {"binary_data_output": True}}, "INVALID_REQUEST"),
    ({"inputs": NAMED, "parameters": ["user"]}, "INVALID_REQUEST"),
    ({"instances": [], "signature_name": "other"}, "INVALID_REQUEST"),
    ({"instances": [], "signature_name": []}, "INVALID_REQUEST"),
    ({**GOOD, "id": 7}, "INVALID_REQUEST"),
    ({**GOOD, "parameters": []}, "INVALID_REQUEST"),
    ({**GOOD, "parameters": {"binary_data_output": 1}}, "INVALID_REQUEST"),
    ({**GOOD, "parameters": {"sequence_id": 5.5}}, "INVALID_REQUEST"),
    ({**GOOD, "model_name": "other"}, "INVALID_REQUEST"),
    ({**GOOD, "model_version": ["v1"]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", dtype="FP32"), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", shape=...), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", data=...), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", data=None), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", parameters=[]), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", parameters={"shared_memory_region": "r"}), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", parameters={"binary_data_size": 8}), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", shape=[1.0, 2]), B, C]}, "INVALID_REQUEST"),
    ({"inputs": [tensor("a", shape=[-1, 2]), B, C]}, "INVALID_REQUEST"),
    ({"instances": [1, 2]}, "INVALID_REQUEST"),
    ({"instances": [{"a": [1, 2], "b": 3, "c": "x"}, {"a": [1, 2]}]}, "INVALID_REQUEST"),
    ({"instances": [{"a": [1, 2], "b": 3, "c": "x"}, 7]}, "INVALID_REQUEST"),
    # names
    ({"inputs": [A, B, C, tensor("a", name="d")]}, "UNKNOWN_INPUT"),
    ({"inputs": [A, B, C, tensor("a", name="d" * 5000)]}, "UNKNOWN_INPUT"),
    ({"inputs": [tensor("a", name=...), B, C]}, "UNKNOWN_INPUT"),
    ({"inputs": [tensor("a", name=["a"]), B, C]}, "UNKNOWN_INPUT"),
    ({"inputs": {**NAMED, "d": 1}}, "UNKNOWN_INPUT"),
    ({"instances": [{"a": [1, 2], "b": 3, "c": "x", "d": 1}]}, "UNKNOWN_INPUT"),
    ({"inputs": []}, "MISSING_INPUT"),
    ({"inputs": {}}, "MISSING_INPUT"),
    ({"inputs": [A, B]}, "MISSING_INPUT"),
    ({"instances": [{"a": [1, 2]}]}, "MISSING_INPUT"),
    ({"inputs": [A, B, C, A]}, "DUPLICATE_INPUT"),
    ({**GOOD, "outputs": [{"name": "a"}]}, "UNKNOWN_OUTPUT"),
    ({**GOOD, "outputs": [{"name": "x" * 5000}]}, "UNKNOWN_OUTPUT"),
    ({**GOOD, "outputs": {"name": "pa"}}, "INVALID_REQUEST"),
    ({**GOOD, "outputs": ["pa"]}, "INVALID_REQUEST"),
    ({**GOOD, "outputs": [{"name": 7}]}, "INVALID_REQUEST"),
    ({**GOOD, "outputs": [{"name": "pa"}, {"name": "pa"}]}, "INVALID_REQUEST"),
    ({**GOOD, "outputs": [{"name": "pa", "data": 1}]}, "INVALID_REQUEST"),
    ({**GOOD, "outputs": [{"name": "pa", "parameters": {"binary_data": "yes"}}]}, "INVALID_REQUEST"),
    ({**GOOD, "outputs": [{"name": "pa", "parameters": {"classification": 3}}]}, "INVALID_REQUEST"),
    ({"inputs": NAMED, "outputs": [{"name": "pa", "parameters": {"binary_data": True}}]}, "INVALID_REQUEST"),
    # datatypes
    ({"inputs": [tensor("a", datatype="FP64"), B, C]}, "DATATYPE_MISMATCH"),
    ({"inputs": [tensor("a", datatype="fp32"), B, C]}, "DATATYPE_MISMATCH"),
    ({"inputs": [tensor("a", datatype=...), B, C]}, "DATATYPE_MISMATCH"),
    ({"inputs": [tensor("a", datatype=["FP32"]), B, C]}, "DATATYPE_MISMATCH"),
    # shapes
    ({"inputs": [tensor("a", shape=[2]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", shape=[1, 3], data=[1, 2, 3]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", shape=[2, 2]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", data=5), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", data=[[1, 2], [3, 4]]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", data=[[1, 2, 3]]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", data=[[[1, 2]]]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("a", shape=[2**62, 2]), B, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [tensor("b", shape=[2**62]), A, C]}, "SHAPE_MISMATCH"),
    ({"inputs": [A, B, tensor("c", shape=[2], data=["x", "y"])]}, "SHAPE_MISMATCH"),
    ({"inputs": {**NAMED, "a": [[1, 2], [3]]}}, "SHAPE_MISMATCH"),
    ({"inputs": {**NAMED, "a": [1, 2]}}, "SHAPE_MISMATCH"),
    ({"inputs": {**NAMED, "a": [[1, [2]]]}}, "SHAPE_MISMATCH"),
    ({"inputs": {**NAMED, "a": [[], []]}}, "SHAPE_MISMATCH"),
    ({"instances": []}, "SHAPE_MISMATCH"),  # `c` has a fixed dimension of 1
    # values
    ({"inputs": [tensor("a", data=[1, "2"]), B, C]}, "INVALID_VALUE"),
    ({"inputs": [tensor("a", data=[1, True]), B, C]}, "INVALID_VALUE"),
    ({"inputs": [tensor("a", data=[1, {}]), B, C]}, "INVALID_VALUE"),
    ({"inputs": [tensor("a", data=[1, 1e39]), B, C]}, "VALUE_OUT_OF_RANGE"),
    ({"inputs": [A, tensor("b", data=[2**63]), C]}, "VALUE_OUT_OF_RANGE"),
    (b'{"inputs": {"a": [[1, 2]], "b": [-9223372036854775809], "c": ["x"]}}', "VALUE_OUT_OF_RANGE"),
    ({"inputs": [A, tensor("b", data=[1.5]), C]}, "INVALID_VALUE"),
    ({"inputs": [A, B, tensor("c", data=[7])]}, "INVALID_VALUE"),
    ({"inputs": {**NAMED, "c": [None]}}, "INVALID_VALUE"),
    # binary
    ({"inputs": [tensor("a", data=..., parameters={"binary_data_size": 8}), B, C]}, "INVALID_BINARY"),
]  # fmt: skip


NOT_JSON = [
    (b"", "got nothing"),
    (b'{"inputs": \xe9}', "got the byte 0xe9 at offset 11"),
    (b'{"inputs": [}', "at line 1 column 13"),
]


@pytest.mark.parametrize(("body", "got"), NOT_JSON)
def test_invalid_json_is_reported_with_its_place(function: ModelFunction, body: bytes, got: str) -> None:
    reply = call(function, body)
    assert (reply.status, reply.json["code"]) == (400, "INVALID_JSON")
    assert reply.json["error"].startswith("the body: expected JSON in UTF-8, got ")
    assert reply.json["error"].endswith(got)


@pytest.mark.parametrize(("body", "code"), BAD, ids=[f"{index}-{code}" for index, (_, code) in enumerate(BAD)])
def test_an_invalid_request_is_a_400_with_its_code(function: ModelFunction, body: Any, code: str) -> None:
    reply = call(function, body)
    assert (reply.status, reply.json["code"]) == (400, code), reply.json
    assert set(reply.json) == {"error", "code", "details"}
    assert 20 < len(reply.json["error"]) < 700
    assert "expected" in reply.json["error"]
    assert "got" in reply.json["error"]


BINARY: list[tuple[bytes, list[int], str, dict[str, str], int, str]] = [
    (b"\0" * 7, [2], "FP32", {}, 400, "INVALID_BINARY"),
    (b"\0" * 12, [2], "FP32", {}, 400, "INVALID_BINARY"),
    (b"\0" * 8, [2], "FP32", {"Inference-Header-Content-Length": "9999"}, 400, "INVALID_BINARY"),
    (b"\0" * 8, [2], "FP32", {"Inference-Header-Content-Length": "-5"}, 400, "INVALID_BINARY"),
    (b"\0" * 8, [2], "FP32", {"Inference-Header-Content-Length": "5"}, 400, "INVALID_JSON"),
    (b"\0" * 8, [2], "FP32", {"Content-Type": "text/html"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    (b"\0" * 8, [2], "FP32", {"Content-Encoding": "br"}, 415, "UNSUPPORTED_ENCODING"),
    (b"\0" * 8, [2], "FP32", {"Content-Encoding": "gzip"}, 400, "INVALID_REQUEST"),
    (b"\0" * 8, [1, 2], "FP16", {}, 400, "DATATYPE_MISMATCH"),
]


@pytest.mark.parametrize(("raw", "shape", "datatype", "changes", "status", "code"), BINARY)
def test_an_invalid_binary_request_is_rejected(
    function: ModelFunction,
    raw: bytes,
    shape: list[int],
    datatype: str,
    changes: dict[str, str],
    status: int,
    code: str,
) -> None:
    body, headers = binary_request(raw, [1, *shape] if len(shape) == 1 else shape, datatype, name="a")
    reply = call(function, body, {**headers, **changes})
    assert (reply.status, reply.json["code"]) == (status, code), reply.json


def test_bytes_that_belong_to_no_input_are_rejected(function: ModelFunction) -> None:
    for document in (GOOD, {"inputs": NAMED}):
        head = orjson.dumps(document)
        headers = {"Inference-Header-Content-Length": str(len(head))}
        assert call(function, head, headers).status == 200
        assert call(function, head + b"\0", headers).json["code"] == "INVALID_BINARY"


def test_binary_text_that_is_not_utf8_is_rejected(function: ModelFunction) -> None:
    text = {"name": "c", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    head = orjson.dumps({"inputs": [A, B, text]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = call(function, head + b"\1\0\0\0\xff", headers)
    assert (reply.status, reply.json["code"], reply.json["details"]["tensor"]) == (400, "INVALID_VALUE", "c")
    assert call(function, head + b"\1\0\0\0a", headers).json["outputs"][2]["data"] == ["a"]


def test_a_compressed_request_is_read_and_a_decompression_bomb_is_rejected(function: ModelFunction) -> None:
    headers = {"content-encoding": "gzip", "CONTENT-TYPE": "application/json; charset=utf-8"}
    assert call(function, gzip.compress(orjson.dumps(GOOD)), headers).status == 200
    reply = call(function, gzip.compress(b" " * 50_000_000), headers)
    assert (reply.status, reply.json["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_missing_rows_of_an_output_are_rejected(function: ModelFunction, tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    artifact = write_graph(tmp_path / "sum.onnx", nodes, [value("x", "FP32", ["n"])], [value("y", "FP32", [])])
    total = make_function(artifact, [TensorSpec("x", "FP32", (-1,))], [TensorSpec("y", "FP32", ())])
    assert call(total, {"inputs": {"x": [1, 2]}}).json == {"outputs": {"y": 3.0}}
    reply = call(total, {"instances": [1, 2]})
    assert (reply.status, reply.json["code"]) == (400, "OUTPUT_WITHOUT_ROWS")


def test_an_open_inference_request_is_answered_with_the_default_headers(function: ModelFunction) -> None:
    reply = call(function, open_request([1, 2], [1, 2], name="a"))
    assert reply.status == 400
    assert reply.headers["x-turnout-model"] == "test"
