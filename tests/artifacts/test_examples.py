from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.artifacts.examples import Example, ExamplesError, ExpectedOutput, Tolerance, matches, read_examples

OUTPUT: dict[str, Any] = {"name": "y", "shape": [2], "datatype": "FP32", "data": [0.5, "NaN"]}
EXAMPLE: dict[str, Any] = {"name": "one", "request": {"inputs": {"x": [1]}}, "response": {"outputs": [OUTPUT]}}


def write(path: Path, document: Any) -> Path:
    path.write_bytes(orjson.dumps(document))
    return path


def nested_lists(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def output(datatype: str, data: list[Any], shape: list[int] | None = None) -> ExpectedOutput:
    return ExpectedOutput("y", datatype, tuple(shape or [len(data)]), tuple(data))


def expecting(*outputs: ExpectedOutput) -> Example:
    return Example("one", {"inputs": {}}, outputs, Tolerance(0.01, 0.0))


def test_examples_are_read(tmp_path: Path) -> None:
    second = {**EXAMPLE, "name": "two", "tolerance": {"relative": 1}, "description": "for people"}
    one, two = read_examples(write(tmp_path / "examples.json", [EXAMPLE, second]))
    assert (one.name, one.request, one.tolerance) == ("one", {"inputs": {"x": [1]}}, Tolerance(1e-5, 1e-5))
    assert two.tolerance == Tolerance(1e-5, 1.0)
    (read,) = one.outputs
    assert (read.name, read.datatype, read.shape, read.data[0]) == ("y", "FP32", (2,), 0.5)
    assert math.isnan(read.data[1])


def test_data_may_be_nested(tmp_path: Path) -> None:
    nested = {"name": "y", "shape": [2, 2], "datatype": "INT64", "data": [[1, 2], [3, 4]]}
    (example,) = read_examples(write(tmp_path / "e.json", [{**EXAMPLE, "response": {"outputs": [nested]}}]))
    assert example.outputs[0].data == (1, 2, 3, 4)


def test_the_example_in_the_documentation_is_read(root: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", (root / "examples/README.md").read_text(), re.DOTALL)
    path = tmp_path / "examples.json"
    path.write_text(block)
    assert [example.name for example in read_examples(path)] == ["setosa", "short-form"]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "must be a list of examples, got an object"),
        (None, "must be a list of examples, got null"),
        ([3], "example 0: must be an object, got a number"),
        ([{**EXAMPLE, "request": {"inputs": nested_lists(100)}}], "is nested more than 100 levels deep"),
        (
            [{**EXAMPLE, "response": {"outputs": [{**OUTPUT, "datatype": "UINT8", "data": [0, 256]}]}}],
            "256 is not valid UINT8",
        ),
        (
            [{**EXAMPLE, "response": {"outputs": [{**OUTPUT, "datatype": "UINT8", "data": [0, -1]}]}}],
            "-1 is not valid UINT8",
        ),
        ([{**EXAMPLE, "response": {"outputs": [{**OUTPUT, "datatype": "INT8", "data": [-129, 127]}]}}], "-129 is no"),
        ([{}], "example 0: `name` is missing"),
        ([{**EXAMPLE, "name": ""}], "`name` must be a non-empty string"),
        ([{**EXAMPLE, "expected": 1}], "unknown key `expected`; known are description, name"),
        ([{**EXAMPLE, "request": []}], "(`one`): `request` must be an object with `inputs` or `instances`"),
        ([{**EXAMPLE, "request": {}}], "(`one`): `request` must be an object with `inputs` or `instances`"),
        ([{**EXAMPLE, "response": {}}], "`response` must be an object with a non-empty list of `outputs`"),
        ([{**EXAMPLE, "response": {"outputs": []}}], "`response` must be an object with a non-empty list of `outputs`"),
        ([{**EXAMPLE, "response": {"outputs": ["y"]}}], "output 0: must be an object, got a string"),
        ([{**EXAMPLE, "tolerance": 1}], "`tolerance` must be an object, got a number"),
        ([{**EXAMPLE, "tolerance": {"abs": 1}}], "tolerance: unknown key `abs`; known are absolute, relative"),
        ([{**EXAMPLE, "tolerance": {"absolute": -1}}], "`absolute` must be a number of at least 0, got -1"),
        ([{**EXAMPLE, "tolerance": {"absolute": True}}], "`absolute` must be a number of at least 0, got True"),
        ([EXAMPLE, EXAMPLE], "two examples are called `one`"),
    ],
)
def test_malformed_example_is_reported(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(ExamplesError) as caught:
        read_examples(write(tmp_path / "examples.json", document))
    assert str(caught.value).startswith("examples.json: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": 1}, "`name` must be a string, got a number"),
        ({"datatype": "FLOAT"}, "unknown datatype 'FLOAT'; known are BOOL, UINT8"),
        ({"datatype": ["FP32"]}, "unknown datatype ['FP32']"),
        ({"shape": 2}, "`shape` must be a list of whole numbers, got 2"),
        ({"shape": [-1]}, "`shape` must be a list of whole numbers, got [-1]"),
        ({"shape": [True, 2]}, "`shape` must be a list of whole numbers"),
        ({"shape": [3]}, "shape [3] needs 3 values, got 2"),
        ({"data": [0.5, "0.5"]}, "output 0: '0.5' is not valid FP32"),
        ({"data": [True, 1]}, "output 0: True is not valid FP32"),
        ({"datatype": "INT64", "data": [1, 1.5]}, "1.5 is not valid INT64"),
        ({"datatype": "BOOL", "data": [True, 1]}, "1 is not valid BOOL"),
        ({"datatype": "BYTES", "data": ["a", 1]}, "1 is not valid BYTES"),
        ({"value": 1}, "unknown key `value`"),
    ],
)
def test_malformed_output_is_reported(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    document = [{**EXAMPLE, "response": {"outputs": [{**OUTPUT, **changes}]}}]
    with pytest.raises(ExamplesError) as caught:
        read_examples(write(tmp_path / "examples.json", document))
    assert str(caught.value).startswith("examples.json: example 0 (`one`): output 0: ")
    assert sentence in str(caught.value)


def test_a_file_with_invalid_json_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "examples.json"
    with pytest.raises(ExamplesError, match="cannot be read: No such file"):
        read_examples(path)
    path.write_bytes(b"[\xff]")
    with pytest.raises(ExamplesError, match=r"examples\.json is not JSON"):
        read_examples(path)


@pytest.mark.parametrize(
    ("expected", "data", "difference"),
    [
        (output("FP32", [1.0]), [1.009], None),
        (output("FP32", [1.0]), [1.02], "output `y`: value 0: expected 1.0, got 1.02"),
        (output("FP32", [1.0]), ["1.0"], "output `y`: value 0: expected 1.0, got '1.0'"),
        (output("FP32", [1.0]), [True], "output `y`: value 0: expected 1.0, got True"),
        (output("FP32", [1.0]), [1], None),
        (output("FP32", [1.0]), [None], "output `y`: value 0: expected 1.0, got None"),
        (output("FP32", [math.nan]), ["NaN"], None),
        (output("FP32", [math.nan]), [None], None),
        (output("FP32", [math.nan]), [0], "output `y`: value 0: expected nan, got 0"),
        (output("FP32", [-math.inf]), ["-Infinity"], None),
        (output("FP32", [-math.inf]), ["Infinity"], "output `y`: value 0: expected -inf, got 'Infinity'"),
        (output("FP32", [1e300]), ["Infinity"], "output `y`: value 0: expected 1e+300, got 'Infinity'"),
        (output("INT64", [2**63 - 1]), [2**63 - 1], None),
        (output("INT64", [2**63 - 1]), [2**63 - 2], f"output `y`: value 0: expected {2**63 - 1}, got {2**63 - 2}"),
        (output("INT64", [1]), [1.0], "output `y`: value 0: expected 1, got 1.0"),
        (output("INT64", [1]), [True], "output `y`: value 0: expected 1, got True"),
        (output("BOOL", [True]), [True], None),
        (output("BOOL", [True]), [1], "output `y`: value 0: expected True, got 1"),
        (output("BYTES", ["NaN"]), ["NaN"], None),
        (output("BYTES", ["ham"]), ["spam"], "output `y`: value 0: expected 'ham', got 'spam'"),
        (output("INT64", [], [0]), [], None),
        (output("INT64", [1]), [1, 2], "output `y`: expected 1 values, got 2"),
    ],
)
def test_values_are_compared_by_their_datatype(
    expected: ExpectedOutput, data: list[Any], difference: str | None
) -> None:
    wanted = [] if difference is None else [difference]
    assert matches(expecting(expected), {"outputs": [{"name": "y", "data": data}]}) == wanted
    assert matches(expecting(expected), {"outputs": {"y": data}}) == wanted
    assert matches(expecting(expected), {"predictions": data}) == wanted


@pytest.mark.parametrize(
    ("answer", "difference"),
    [
        ({"outputs": [{"name": "y", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]}]}, None),
        ({"outputs": [{"name": "y", "shape": [2, 1], "datatype": "INT64", "data": [[1], [2]]}]}, None),
        ({"outputs": {"y": [[1], [2]], "more": 3}}, None),
        ({"predictions": [[1], [2]]}, None),
        ({"predictions": [{"y": [1], "more": 1}, {"y": [2], "more": 1}]}, None),
        ({"outputs": [{"name": "y", "shape": [2], "data": [1, 2]}]}, "output `y`: expected shape [2, 1], got [2]"),
        (
            {"outputs": [{"name": "y", "datatype": "INT32", "data": [1, 2]}]},
            "output `y`: expected datatype INT64, got INT32",
        ),
        ({"outputs": [{"name": "x", "data": [1, 2]}]}, "output `y` is missing"),
        ({"outputs": ["y"]}, "output `y` is missing"),
        ({"predictions": [{"x": 1}]}, "output `y` is missing"),
        ({"predictions": {}}, "output `y` is missing"),
        ({"error": "no"}, "output `y` is missing"),
    ],
)
def test_answers_of_every_form_are_compared(answer: dict[str, Any], difference: str | None) -> None:
    wanted = [] if difference is None else [difference]
    assert matches(expecting(output("INT64", [1, 2], [2, 1])), answer) == wanted


def test_only_the_first_of_many_differences_are_reported() -> None:
    reported = matches(expecting(output("INT64", [0] * 20)), {"outputs": {"y": [1] * 20}})
    assert reported[-1] == "output `y`: 15 more values differ"
    assert len(reported) == 6


@given(st.floats(), st.floats(0, 1), st.floats(0, 1))
def test_a_value_equals_itself(value: float, absolute: float, relative: float) -> None:
    assert Tolerance(absolute, relative).allows(value, value)
