"""Examples that cannot be right are reported without running a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.builders.manifests import signature
from turnout.artifacts.example_checks import check_examples
from turnout.artifacts.examples import Example, ExpectedOutput
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

SPEC = signature()  # x -> y, FP32 [-1, 4]
ROW = [1, 2, 3, 4]


def tensor(name: str = "x", datatype: str = "FP32", shape: list[int] | None = None, data: Any = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [1, 4], "data": ROW if data is None else data}


def output(name: str = "y", datatype: str = "FP32", shape: tuple[int, ...] = (1, 4)) -> ExpectedOutput:
    return ExpectedOutput(name, datatype, shape, ())


def check(
    request: Mapping[str, Any] | None = None,
    *outputs: ExpectedOutput,
    hooks: frozenset[str] = frozenset(),
    spec: Signature = SPEC,
) -> tuple[str, ...]:
    example = Example("one", {"inputs": [tensor()]} if request is None else request, outputs or (output(),))
    return check_examples([example], spec, hooks, source="examples.json")


@pytest.mark.parametrize(
    "request_",
    [{"inputs": [tensor()]}, {"inputs": {"x": [ROW]}}, {"instances": [ROW]}, {"instances": [{"x": ROW}]}],
    ids=["open", "named", "rows", "records"],
)
def test_every_valid_request_form_is_accepted(request_: dict[str, Any]) -> None:
    assert check(request_) == ()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"inputs": [tensor("z")]}, "unknown input: expected `x`, got `z`"),
        ({"inputs": {"z": [ROW]}}, "unknown input: expected `x`, got `z`"),
        ({"instances": [{"z": ROW}]}, "`z`"),
        ({"inputs": [tensor(datatype="FP64")]}, "input `x`: expected datatype FP32, got FP64"),
        ({"inputs": [tensor(shape=[1, 5], data=[*ROW, 5])]}, "input `x`: expected shape [-1, 4], got [1, 5]"),
        ({"inputs": [tensor(shape=[4])]}, "input `x`: expected shape [-1, 4], got [4]"),
        ({"inputs": {"x": [[1, 2, 3]]}}, "input `x`"),
        ({"instances": [[1, 2, 3]]}, "input `x`"),
        ({"inputs": {"x": [["a", "b", "c", "d"]]}}, "input `x`"),
        ({"inputs": {}}, "input `x` is missing"),
        ({"inputs": [tensor(data=[1, 2])]}, "input `x`"),
    ],
)
def test_a_mismatching_request_is_reported_with_its_place(request_: dict[str, Any], sentence: str) -> None:
    (result,) = check(request_)
    assert result.startswith("examples.json: example 0 (`one`): request: ")
    assert sentence in result


@pytest.mark.parametrize(
    ("expected", "sentence"),
    [
        (output("z"), "unknown output `z`: expected `y`"),
        (output(datatype="INT64"), "output `y`: expected datatype FP32, got INT64"),
        (output(shape=(1, 5)), "output `y`: expected shape [-1, 4], got [1, 5]"),
        (output(shape=(4,)), "output `y`: expected shape [-1, 4], got [4]"),
    ],
)
def test_a_mismatching_expectation_is_reported_with_its_place(expected: ExpectedOutput, sentence: str) -> None:
    assert check(None, expected) == (f"examples.json: example 0 (`one`): {sentence}",)


def test_outputs_that_a_request_asks_for_are_checked() -> None:
    assert check({"inputs": [tensor()], "outputs": [{"name": "y"}]}) == ()
    (unknown,) = check({"inputs": [tensor()], "outputs": [{"name": "z"}]})
    assert unknown.endswith("request: unknown output: expected `y`, got `z`")
    spec = Signature(SPEC.inputs, (*SPEC.outputs, TensorSpec("w", "FP32", (-1,))))
    (unasked,) = check({"inputs": [tensor()], "outputs": [{"name": "w"}]}, spec=spec)
    assert unasked.endswith("output `y` is expected, but the request does not select it")


def test_tensors_that_a_transform_changes_may_have_any_name_and_shape() -> None:
    other = {"inputs": [tensor("text", "BYTES", [1], ["a"])]}
    assert check(other) != ()
    assert check(other, hooks=frozenset({"preprocess"})) == ()
    assert check(other, output("z"), hooks=frozenset({"preprocess"})) != ()
    assert check(None, output("z"), hooks=frozenset({"postprocess"})) == ()
    assert check({"inputs": [{**tensor(), "datatype": "FP1"}]}, hooks=frozenset({"preprocess"})) != ()


@pytest.mark.parametrize(("declared", "fits"), [((1, 4), True), ((-1, 4), True), ((1, 5), False)])
def test_a_fixed_batch_size_of_the_output_alone_is_ignored(declared: tuple[int, ...], fits: bool) -> None:
    spec = Signature(SPEC.inputs, (TensorSpec("y", "FP32", declared),))
    result = check({"inputs": {"x": [ROW, ROW]}}, output(shape=(2, 4)), spec=spec)
    assert (result == ()) is fits


def test_a_fixed_batch_size_of_both_input_and_output_is_checked() -> None:
    spec = Signature((TensorSpec("x", "FP32", (1, 4)),), (TensorSpec("y", "FP32", (1, 4)),))
    assert check(spec=spec) == ()
    assert check(None, output(shape=(2, 4)), spec=spec) != ()


def test_a_tensor_of_unknown_rank_accepts_any_shape() -> None:
    spec = signature(shape=None)
    assert check({"inputs": {"x": [[[1.0]]]}}, output(shape=(1, 1, 1)), spec=spec) == ()


def test_all_examples_are_reported_at_once() -> None:
    bad = Example("bad", {"inputs": {"z": [ROW]}}, (output(),))
    worse = Example("worse", {"inputs": {"x": [ROW]}}, (output("a"), output("b")))
    result = check_examples([bad, worse], SPEC, source="e.json")
    places = [sentence.split(": ")[1] for sentence in result]
    assert places == ["example 0 (`bad`)", "example 1 (`worse`)", "example 1 (`worse`)"]
