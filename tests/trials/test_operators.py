"""Every operator that is considered safe is tested with the requests that end processes for other operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.builders.graphs import value, write_graph
from turnout.artifacts.artifact import load_artifact
from turnout.trials import trials as trials_module
from turnout.trials.operators import SOUND_OPERATORS
from turnout.trials.process import TrialProcess
from turnout.trials.trials import Trials

MATRIX = ("n", 2)


@dataclass(frozen=True)
class Use:
    """One way to use an operator: inputs by name, constants, attributes, the output's datatype."""

    inputs: Mapping[str, tuple[str, tuple[int | str, ...]]]
    output: str = "FP32"
    constants: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def of_all(datatypes: tuple[str, ...], count: int = 1, output: str = "", **how: Any) -> list[Use]:
    """Return one use for each datatype, all inputs alike."""
    names = "abc"[:count]
    return [Use(dict.fromkeys(names, (datatype, MATRIX)), output or datatype, **how) for datatype in datatypes]


FLOATS = ("FP32", "FP64")
NUMBERS = ("FP32", "INT64", "INT32")
TREES = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0], "nodes_missing_value_tracks_true": [0, 0, 0],
}  # fmt: skip
FORESTS = TREES | {
    "class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [1.0, 1.0],
    "classlabels_int64s": [0, 1],
}  # fmt: skip
TARGETS = TREES | {
    "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0],
    "n_targets": 1,
}  # fmt: skip
LINEAR = {"coefficients": [1.0, 2.0, 3.0, 4.0], "intercepts": [0.0, 1.0], "classlabels_ints": [0, 1]}
CASTS = (("FP32", 1), ("INT32", 6), ("INT8", 3), ("BOOL", 9))

FP, INT, MANY = ("FP32", MATRIX), ("INT64", MATRIX), ("INT64", ("k",))
IMAGE = ("FP32", ("n", 1, "h", "w"))


def constant(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers)


USES: Mapping[str, list[Use]] = {
    **{name: of_all(NUMBERS) for name in ("Abs", "Identity", "Neg", "Transpose")},
    **{name: of_all(FLOATS) for name in ("Exp", "Log", "Sqrt", "Sigmoid", "Tanh", "Relu", "Softmax")},
    "Erf": of_all(("FP32",)),
    **{name: of_all(NUMBERS, 2) for name in ("Add", "Sub", "Mul", "Max", "Min")},
    "MatMul": [Use({"a": FP, "b": ("FP32", (2, "m"))}),
        Use({"a": ("INT32", MATRIX), "b": ("INT32", (2, "m"))}, "INT32")],
    "Gemm": [Use({"a": FP, "b": ("FP32", (2, "m"))})],
    **{name: of_all(("BOOL",), 2) for name in ("And", "Or")},
    "Not": of_all(("BOOL",)),
    **{name: of_all(NUMBERS, 2, "BOOL") for name in ("Equal", "Greater", "Less")},
    "Where": [Use({"a": ("BOOL", MATRIX), "b": INT, "c": INT}, "INT64")],
    **{name: of_all(NUMBERS, 1, "INT64") for name in ("ArgMax", "ArgMin", "Shape")},
    **{name: of_all(NUMBERS) for name in ("ReduceMax", "ReduceMean", "ReduceSum")},
    "Cast": [Use({"a": (entry, MATRIX)}, to, attributes={"to": number})
        for entry in NUMBERS for to, number in CASTS],
    "Concat": of_all((*NUMBERS, "BYTES"), 2, attributes={"axis": 1}),
    "Flatten": of_all(NUMBERS),
    "Constant": [Use({}, "INT64", attributes={"value_ints": [1]})],
    "Conv": [Use({"a": IMAGE}, constants={"b": np.ones((1, 1, 2, 2), np.float32)})],
    "MaxPool": [Use({"a": IMAGE}, attributes={"kernel_shape": [2, 2]})],
    "Gather": [Use({"a": FP, "b": MANY}),
        Use({"b": MANY}, constants={"a": np.ones((3, 2), np.float32)})],
    "Reshape": [Use({"a": FP}, constants={"b": constant(-1, 1)}),
        Use({"a": FP, "b": MANY})],
    "Slice": [Use({"a": FP, "b": MANY, "c": MANY}),
        Use({"a": FP}, constants={"b": constant(0), "c": constant(1)})],
    "Squeeze": [Use({"a": ("FP32", ("n", 1))}, constants={"b": constant(1)}),
        Use({"a": ("FP32", ("n", 1)), "b": MANY})],
    "Unsqueeze": [Use({"a": FP}, constants={"b": constant(1)}),
        Use({"a": FP, "b": MANY})],
    "ai.onnx.ml:Scaler": of_all(NUMBERS, 1, "FP32", attributes={"offset": [0.0, 1.0], "scale": [1.0, 2.0]}),
    "ai.onnx.ml:Normalizer": of_all(NUMBERS, 1, "FP32", attributes={"norm": "L2"}),
    "ai.onnx.ml:LinearRegressor": of_all(("FP32",), attributes={"coefficients": [1.0, 2.0], "intercepts": [0.0]}),
    "ai.onnx.ml:LinearClassifier": of_all(("FP32", "INT64"), 1, "INT64", attributes=LINEAR),
    "ai.onnx.ml:TreeEnsembleClassifier": of_all(("FP32", "INT64"), 1, "INT64", attributes=FORESTS),
    "ai.onnx.ml:TreeEnsembleRegressor": of_all(("FP32",), attributes=TARGETS),
    "ai.onnx.ml:ZipMap": of_all(("FP32",), attributes={"classlabels_int64s": [0, 1]}),
}  # fmt: skip


@pytest.fixture(scope="module")
def process() -> Iterator[TrialProcess]:
    process = TrialProcess()
    yield process
    process.close()


def test_every_safe_operator_is_tested_here() -> None:
    assert USES.keys() == SOUND_OPERATORS


@pytest.mark.parametrize("name", sorted(SOUND_OPERATORS))
def test_no_request_ends_the_process(
    name: str, process: TrialProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "SOUND_OPERATORS", frozenset())
    domain, _, operator = name.rpartition(":")
    trials = Trials(tmp_path / "trials", process)
    for number, use in enumerate(USES[name]):
        names = sorted({*use.inputs, *use.constants})
        outputs = ["y", "z"] if operator.endswith("Classifier") else ["y"]
        node = helper.make_node(operator, names, outputs, domain=domain, **use.attributes)
        given = value("y", use.output, None)
        if operator == "ZipMap":
            element = helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, []))
            given = helper.make_value_info("y", helper.make_sequence_type_proto(element))
        path = write_graph(
            tmp_path / f"{number}.onnx",
            [node],
            [value(tensor, datatype, shape) for tensor, (datatype, shape) in use.inputs.items()],
            [given],
            [numpy_helper.from_array(array, constant) for constant, array in use.constants.items()],
        )
        trial = trials.of(load_artifact(path, None), "m v1")
        assert (trial.reason, trial.fatal) == ("", ())
