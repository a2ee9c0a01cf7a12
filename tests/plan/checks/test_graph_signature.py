"""The inputs and outputs of a graph, and mismatches in it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from turnout.manifest.schema import Finding
from turnout.plan.checks.graph_signature import signature_of_graph
from turnout.protocol.routing.graph_nodes import CallNode, Node, build_node
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

Row = tuple[str, str, tuple[int, ...] | None]


def signature(inputs: list[Row], outputs: list[Row]) -> Signature:
    return Signature(tuple(TensorSpec(*tensor) for tensor in inputs), tuple(TensorSpec(*tensor) for tensor in outputs))


SCALER = signature([("raw", "FP32", (-1, 4))], [("scaled", "FP32", (-1, 4))])
IRIS = signature([("X", "FP32", (-1, 4))], [("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 3))])
IRIS_2 = signature(
    [("X", "FP32", (-1, 4))], [("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 3)), ("e", "FP32", (1,))]
)
TEXTS = signature([("X", "BYTES", (-1,))], [("label", "BYTES", (-1,))])
WIDE = signature([("X", "FP32", (-1, 5))], [("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 7))])
PICKY = signature([("X", "FP32", (-1, 4)), ("kind", "INT32", (1,))], [("label", "INT64", (-1,))])

MODELS: Mapping[tuple[str, str], list[Signature]] = {
    ("scaler", ""): [SCALER],
    ("iris", ""): [IRIS, IRIS_2],
    ("iris", "v1"): [IRIS],
    ("iris", "v2"): [IRIS_2],
    ("texts", ""): [TEXTS],
    ("wide", ""): [WIDE],
    ("picky", ""): [PICKY],
    ("mixed", ""): [IRIS, TEXTS],
    ("unread", ""): [],
}


def read(graph: dict[str, object]) -> tuple[Signature | None, tuple[Finding, ...]]:
    node: Node = build_node(graph)
    return signature_of_graph(node, lambda call: MODELS[call.model, call.version], ("graph",))


def datatypes_of(signature: Signature | None) -> tuple[dict[str, object], dict[str, object]]:
    assert signature is not None
    inputs, outputs = (
        {entry.name: (entry.datatype, entry.shape, entry.required) for entry in rows}
        for rows in (signature.inputs, signature.outputs)
    )
    return {**inputs}, {name: tensor[:2] for name, tensor in outputs.items()}


X = ("FP32", (-1, 4), True)
LABEL = ("INT64", (-1,))
PROBABILITIES = ("FP32", (-1, 3))
CALL = {"model": "iris", "version": "v1"}
PICKED = {"model": "picky"}


@pytest.mark.parametrize(
    ("graph", "inputs", "outputs"),
    [
        (CALL, {"X": X}, {"label": LABEL, "probabilities": PROBABILITIES}),
        # If either of two versions may answer: what both have.
        ({"model": "iris"}, {"X": X}, {"label": LABEL, "probabilities": PROBABILITIES}),
        (
            {**CALL, "inputs": {"X": "x"}, "outputs": {"label": "species"}},
            {"x": X},
            {"species": LABEL, "probabilities": PROBABILITIES},
        ),
        (
            {"sequence": [{"model": "scaler"}, {**CALL, "inputs": {"X": "scaled"}}]},
            {"raw": X},
            {"label": LABEL, "probabilities": PROBABILITIES},
        ),
        # An output without a combination is left out.
        (
            {"ensemble": [CALL, {"model": "iris", "version": "v2"}], "combine": {"label": "vote"}},
            {"X": X},
            {"label": LABEL},
        ),
        (
            {"ensemble": [CALL, {"model": "iris", "version": "v2"}], "combine": {"label": "vote", "*": "mean"}},
            {"X": X},
            {"label": LABEL, "probabilities": PROBABILITIES},
        ),
        # Members with inputs of their own: the graph has all of them.
        (
            {"ensemble": [CALL, {"model": "iris", "version": "v1", "inputs": {"X": "Y"}}], "combine": "concatenate"},
            {"X": X, "Y": X},
            {"label": LABEL, "probabilities": PROBABILITIES},
        ),
        # The deciding input need not be an input of any model.
        (
            {"switch": {"input": "kind", "cases": [{"equals": "a", "then": CALL}], "otherwise": {"model": "wide"}}},
            {"kind": ("BYTES", None, True), "X": ("FP32", (-1, -1), True)},
            {"label": LABEL, "probabilities": ("FP32", (-1, -1))},
        ),
        (
            {"switch": {"input": "kind", "cases": [{"above": 1, "then": {"model": "picky"}}], "otherwise": CALL}},
            {"X": X, "kind": ("INT32", (1,), True)},
            {"label": LABEL},
        ),
        # An input that only some cases use is optional.
        (
            {
                "switch": {
                    "input": "kind",
                    "cases": [{"equals": True, "then": CALL}],
                    "otherwise": {**CALL, "inputs": {"X": "Y"}},
                }
            },
            {"kind": ("BOOL", None, True), "X": (*X[:2], False), "Y": (*X[:2], False)},
            {"label": LABEL, "probabilities": PROBABILITIES},
        ),
        # A step's label decides which step is next.
        (
            {
                "sequence": [
                    {**CALL, "outputs": {"probabilities": "raw"}},
                    {
                        "switch": {
                            "input": "label",
                            "cases": [{"below": 1, "then": {"model": "scaler", "inputs": {"raw": "features"}}}],
                            "otherwise": {"model": "scaler", "inputs": {"raw": "features"}},
                        }
                    },
                ]
            },
            None,
            "graph.sequence.1: the step before does not return `features`",
        ),
    ],
)
def test_inputs_and_outputs_of_a_graph(
    graph: dict[str, object], inputs: dict[str, object] | None, outputs: dict[str, object] | str
) -> None:
    result, findings = read(graph)
    if isinstance(outputs, str):
        assert [f"{'.'.join(map(str, finding.path))}: {finding.message}" for finding in findings] == [outputs]
    else:
        assert findings == ()
        assert datatypes_of(result) == (inputs, outputs)


def sequence(*steps: object) -> dict[str, object]:
    return {"sequence": list(steps)}


def ensemble(combine: object, *members: object) -> dict[str, object]:
    return {"ensemble": list(members), "combine": combine}


def switch(name: str, value: object, then: object, otherwise: object) -> dict[str, object]:
    return {"switch": {"input": name, "cases": [{"equals": value, "then": then}], "otherwise": otherwise}}


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({**CALL, "inputs": {"Z": "x"}}, "graph.inputs.Z: iris v1 has no `Z`"),
        ({**CALL, "outputs": {"Z": "x"}}, "graph.outputs.Z: iris v1 has no `Z`"),
        ({**CALL, "outputs": {"label": "probabilities"}}, "graph.outputs: two outputs have the same name"),
        (
            {"model": "picky", "inputs": {"kind": "X"}},
            "graph: `X` cannot be one tensor: the datatypes differ: FP32 and INT32",
        ),
        ({"model": "mixed"}, "graph: `X` cannot be one tensor: the datatypes differ: FP32 and BYTES"),
        (sequence({"model": "scaler"}, CALL), "graph.sequence.1: the step before does not return `X`"),
        (
            sequence({"model": "scaler", "outputs": {"scaled": "X"}}, {"model": "texts"}),
            "graph.sequence.1: `X` must be BYTES [-1], but the step before returns FP32 [-1,4]",
        ),
        (
            sequence({"model": "scaler", "outputs": {"scaled": "X"}}, {"model": "wide"}),
            "graph.sequence.1: `X` must be FP32 [-1,5], but the step before returns FP32 [-1,4]",
        ),
        (
            sequence(CALL, switch("label", "rose", {"model": "scaler", "inputs": {"raw": "probabilities"}}, CALL)),
            "graph.sequence.1: `label` is INT64, but the cases compare it with texts",
        ),
        (
            switch("X", 1, CALL, {"model": "scaler", "inputs": {"raw": "X"}, "outputs": {"scaled": "label"}}),
            "graph: `X` is FP32 [-1,4], but a switch needs a tensor with one element",
        ),
        *(
            (
                {"switch": {"input": "kind", "cases": [{op: value, "then": PICKED}], "otherwise": PICKED}},
                f"graph: `kind` is INT32: `{op}: {value}` never matches",
            )
            for op, value in (
                ("equals", 1.5),
                ("equals", float("inf")),
                ("equals", 2**31),
                ("below", -(2**31)),
                ("above", 2**31 - 1),
            )
        ),
        (
            sequence(
                {"model": "scaler"},
                switch("label", 1, {**CALL, "inputs": {"X": "scaled"}}, {**CALL, "inputs": {"X": "scaled"}}),
            ),
            "graph.sequence.1: the step before does not return `label`",
        ),
        (ensemble("mean", CALL, CALL), "graph.combine: cannot compute the mean of `label`: INT64 has no mean"),
        (
            ensemble({"probabilities": "mean"}, CALL, {"model": "wide", "inputs": {"X": "Y"}}),
            "graph.combine: cannot compute the mean of `probabilities`: the shapes differ: FP32 [-1,3] and FP32 [-1,7]",
        ),
        (
            ensemble({"label": "vote"}, CALL, {"model": "wide"}),
            "graph: `X` cannot be one tensor: the shapes differ: FP32 [-1,4] and FP32 [-1,5]",
        ),
        (ensemble({"label": "vote", "y": "vote"}, CALL, CALL), "graph.combine.y: no member returns `y`"),
        (
            ensemble({"label": "vote", "e": "mean"}, CALL, {"model": "iris", "version": "v2"}),
            "graph.combine.e: not every member returns `e`",
        ),
        (
            ensemble("vote", {"model": "scaler"}, {"model": "scaler", "outputs": {"scaled": "s"}}),
            "graph: returns nothing: the members have no output in common",
        ),
        (
            switch("kind", 1, {"model": "scaler"}, {"model": "scaler", "outputs": {"scaled": "s"}}),
            "graph: returns nothing: no output is common to all cases",
        ),
        (
            switch("kind", 1, CALL, {"model": "texts", "inputs": {"X": "text"}}),
            "graph: `label` cannot be one tensor: the datatypes differ: INT64 and BYTES",
        ),
        (switch("X", "a", CALL, CALL), "graph: `X` is FP32, but the cases compare it with texts"),
        (
            switch("kind", 1, switch("kind", "a", CALL, CALL), CALL),
            "graph: `kind` is compared with different kinds of values",
        ),
    ],
)
def test_mismatches_are_reported_at_their_place(graph: dict[str, object], expected: str) -> None:
    _, findings = read(graph)
    assert expected in [f"{'.'.join(map(str, finding.path))}: {finding.message}" for finding in findings]


@pytest.mark.parametrize(("op", "value"), [("equals", 1.0), ("below", 0.5), ("above", 2**31 - 2)])
def test_a_case_that_some_value_of_the_datatype_reaches_is_accepted(op: str, value: float) -> None:
    _, findings = read({"switch": {"input": "kind", "cases": [{op: value, "then": PICKED}], "otherwise": PICKED}})
    assert findings == ()


def test_nothing_is_reported_about_unknown_tensors() -> None:
    assert read(sequence({"model": "scaler"}, {"model": "unread"})) == (None, ())


def test_available_names_are_reported() -> None:
    _, (finding,) = read(sequence({"model": "scaler"}, CALL))
    assert finding.hint == "It returns `scaled`; map one of them with `inputs: {X: ...}`."


def test_call_of_a_graph_names_its_node() -> None:
    seen: list[CallNode] = []

    def signatures_of(call: CallNode) -> list[Signature]:
        seen.append(call)
        return [SCALER]

    signature_of_graph(build_node(sequence({"model": "a"}, {"model": "b", "inputs": {"raw": "scaled"}})), signatures_of)
    assert [call.model for call in seen] == ["a", "b"]
