from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray
from onnx import numpy_helper

from turnout.artifacts.artifact import load_artifact
from turnout.artifacts.examples import Example, matches, read_examples
from turnout.plan.checks.compatibility import check_drop_in
from turnout.protocol.tensors.datatypes import DATATYPES, TensorSpec

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
VERSIONS = [
    (model, version)
    for model, entry in yaml.safe_load((ROOT / "models.yaml").read_text())["models"].items()
    for version in entry["versions"]
]
SIGNATURES = {
    "iris": ([("measurements", "FP32", (-1, 4))], [("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 3))]),
    "digits": ([("image", "FP32", (-1, 1, 8, 8))], [("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 10))]),
    "spam": ([("text", "BYTES", (-1,))], [("label", "BYTES", (-1,)), ("probabilities", "FP32", (-1, 2))]),
    "credit": (
        [
            ("age", "INT64", (-1,)),
            ("income", "FP32", (-1,)),
            ("amount", "FP32", (-1,)),
            ("duration_months", "INT64", (-1,)),
            ("debt_ratio", "FP32", (-1,)),
            ("owns_home", "BOOL", (-1,)),
            ("defaulted_before", "BOOL", (-1,)),
            ("employment", "BYTES", (-1,)),
            ("purpose", "BYTES", (-1,)),
        ],
        [("probability", "FP32", (-1,)), ("approved", "BOOL", (-1,))],
    ),
}


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options)


def arrays_of(request: Mapping[str, Any], inputs: tuple[TensorSpec, ...]) -> dict[str, NDArray[Any]]:
    """Return a request in any of its JSON forms as the session's feeds."""
    if "instances" in request:
        rows = request["instances"]
        by_name = isinstance(rows[0], dict)
        values = {entry.name: [each[entry.name] if by_name else each for each in rows] for entry in inputs}
        shapes = {}
    elif isinstance(request["inputs"], dict):
        values, shapes = request["inputs"], {}
    else:
        values = {entry["name"]: entry["data"] for entry in request["inputs"]}
        shapes = {entry["name"]: entry["shape"] for entry in request["inputs"]}
    dtypes = {tensor.name: DATATYPES[tensor.datatype].dtype for tensor in inputs}
    arrays = {name: np.array(data, dtype=dtypes[name]) for name, data in values.items()}
    return {name: array.reshape(shapes.get(name, array.shape)) for name, array in arrays.items()}


def answer_of(session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    names = [output.name for output in session.get_outputs()]
    rows = zip(names, session.run(names, dict(feeds)), strict=True)
    return {"outputs": [{"name": name, "shape": list(entry.shape), "data": entry.tolist()} for name, entry in rows]}


EXAMPLES = [
    pytest.param(MODELS / model / version, example, id=f"{model}-{version}-{example.name}")
    for model, version in VERSIONS
    for example in read_examples(MODELS / model / version / "examples.json")
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("folder", "example"), EXAMPLES)
def test_example_is_answered_as_expected(folder: Path, example: Example, threads: int) -> None:
    signature = load_artifact(folder / "model.onnx", None).signature
    answer = answer_of(open_session(folder / "model.onnx", threads), arrays_of(example.request, signature.inputs))
    assert matches(example, answer) == []
    assert {output.name for output in example.outputs} == {output.name for output in signature.outputs}


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_examples_have_each_form(model: str, version: str) -> None:
    examples = read_examples(MODELS / model / version / "examples.json")
    assert len(examples) >= 3
    forms = {type(example.request.get("inputs")) for example in examples}
    assert forms >= {list, dict}


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_signature_is_as_documented(model: str, version: str) -> None:
    signature = load_artifact(MODELS / model / version / "model.onnx", None).signature
    inputs = [(tensor.name, tensor.datatype, tensor.shape) for tensor in signature.inputs]
    outputs = [(tensor.name, tensor.datatype, tensor.shape) for tensor in signature.outputs]
    assert (inputs, outputs) == SIGNATURES[model]
    assert all(tensor.required for tensor in signature.inputs)
    assert not any(tensor.labels for tensor in signature.outputs)
    assert "locales" not in signature.metadata


@pytest.mark.parametrize("model", ["iris", "digits"])
def test_newer_version_is_a_drop_in_for_the_older(model: str) -> None:
    older, newer = (load_artifact(MODELS / model / version / "model.onnx", None).signature for version in ("v1", "v2"))
    assert check_drop_in(older, newer) == ()


@pytest.mark.parametrize(("model", "version"), VERSIONS)
def test_graph_loads_in_onnxruntime_1_20(model: str, version: str) -> None:
    graph = onnx.load(str(MODELS / model / version / "model.onnx"))
    assert graph.ir_version <= 10
    newest = {"": 21, "ai.onnx.ml": 4, "com.microsoft": 1}
    assert all(entry.version <= newest[entry.domain] for entry in graph.opset_import)


def test_samples_are_small() -> None:
    files = [
        file for folder in (MODELS, ROOT / "examples") for file in folder.rglob("*") if "__pycache__" not in file.parts
    ]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 2_000_000


@pytest.mark.parametrize("locale", ["C", "xx_YY.UTF-8"])
def test_spam_loads_on_a_system_without_locales(locale: str) -> None:
    code = (
        "import numpy, onnxruntime, sys;"
        "session = onnxruntime.InferenceSession(sys.argv[1]);"
        "print(session.run(['label'], {'text': numpy.array(['WIN a FREE laptop'], dtype=object)})[0][0])"
    )
    # glibc looks for generated locales only there.
    environment = {**os.environ, "LC_ALL": locale, "LOCPATH": "/nonexistent"}
    command = [sys.executable, "-c", code, str(MODELS / "spam/v1/model.onnx")]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout == "spam\n"


def floats_apart(model: onnx.ModelProto) -> tuple[bytes, list[NDArray[np.float64]]]:
    """Return the model without the values of its float tensors and attributes, and those values."""
    values: list[NDArray[np.float64]] = []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values.append(numpy_helper.to_array(tensor).astype(np.float64))
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.floats:
                values.append(np.array(attribute.floats))
                del attribute.floats[:]
    return model.SerializeToString(deterministic=True), values


@pytest.mark.parametrize("model", SIGNATURES)
def test_training_again_yields_the_same_artifacts(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit on one machine; on another processor, linear algebra may round the last bit of a weight
    differently.
    """
    importlib.import_module(f"examples.{model}.train").main(tmp_path)
    versions = [version for name, version in VERSIONS if name == model]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == sorted(versions)
    for version in versions:
        shape, values = floats_apart(onnx.load(str(MODELS / model / version / "model.onnx")))
        shape_again, values_again = floats_apart(onnx.load(str(tmp_path / version / "model.onnx")))
        assert shape_again == shape
        for one, other in zip(values, values_again, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
        session = open_session(tmp_path / version / "model.onnx")
        signature = load_artifact(tmp_path / version / "model.onnx", None).signature
        old, new = (read_examples(folder / version / "examples.json") for folder in (MODELS / model, tmp_path))
        assert [example.name for example in old] == [example.name for example in new]
        for example in old:
            assert matches(example, answer_of(session, arrays_of(example.request, signature.inputs))) == []
    assert capsys.readouterr().out.startswith(f"{model} v1: ")
