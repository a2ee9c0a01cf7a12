"""The effect of a version's runtime on its other keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.manifest.parser import parse_manifest
from turnout.manifest.values import DeclaredSignature, DeclaredTensor
from turnout.problems import ProblemsError

SIGNATURE = "signature: {inputs: {x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: INT64, shape: []}}}"


def problems_of(version: str) -> list[str]:
    text = f"models:\n  iris:\n    versions:\n      v1: {{{version}}}\nstages: {{dev: {{serve: {{iris: v1}}}}}}\n"
    try:
        parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")
    except ProblemsError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_python_version_has_its_signature_and_requirements() -> None:
    version = (
        f"runtime: python, artifact: m/predict.py, {SIGNATURE}, requirements: [skops==0.13.0], environment: {{AB: c}}"
    )
    assert problems_of(version) == []
    text = f"models: {{iris: {{versions: {{v1: {{{version}}}}}}}}}\nstages: {{dev: {{serve: {{iris: v1}}}}}}\n"
    manifest = parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")
    (entry,) = manifest.model("iris").versions
    assert entry.runtime == "python"
    assert entry.signature == DeclaredSignature(
        (DeclaredTensor("x", "FP32", (-1,)),), (DeclaredTensor("y", "INT64", ()),)
    )


def test_without_a_runtime_a_version_is_onnx() -> None:
    assert problems_of("artifact: a.onnx") == problems_of("runtime: onnx, artifact: a.onnx") == []


@pytest.mark.parametrize(
    ("version", "place", "message", "hint"),
    [
        (
            "runtime: pyhton, artifact: a.py",
            "versions.v1.runtime",
            'must be one of onnx, python, got "pyhton": did you mean `python`?',
            "",
        ),
        (
            "runtime: python, artifact: a.py",
            "versions.v1",
            "`signature` is missing: with `runtime: python` models.yaml declares inputs and outputs",
            "For example: signature: {inputs:",
        ),
        (
            "runtime: python, artifact: a.py, signature: {inputs: {x: {datatype: FP32, shape: [-1]}}}",
            "versions.v1.signature",
            "`outputs` is missing",
            "",
        ),
        (
            f"runtime: python, artifact: a.py, {SIGNATURE}".replace("FP32", "FLOAT"),
            "versions.v1.signature.inputs.x.datatype",
            "must be one of BOOL, UINT8",
            "",
        ),
        (
            f"artifact: a.onnx, {SIGNATURE}",
            "versions.v1.signature",
            "is for `runtime: python`: the signature of an ONNX file is in the file",
            "Delete it, or name the runtime.",
        ),
        (
            "artifact: m/predict.py",
            "versions.v1.artifact",
            "is a Python file, and `runtime: onnx` reads an ONNX file",
            "Add `runtime: python` and its `signature`.",
        ),
        (
            f"runtime: python, artifact: m/v1, {SIGNATURE}",
            "versions.v1.artifact",
            "must be the path of a Python file, `*.py`, with `runtime: python`",
            "Name the file that defines `load` and `predict`.",
        ),
        (
            f"runtime: python, artifact: 's3://bucket/predict.py', sha256: '{'a' * 64}', {SIGNATURE}",
            "versions.v1.artifact",
            "must be a path with `runtime: python`, got an object in S3",
            "Copy its folder to below this file's",
        ),
        (
            f"runtime: python, artifact: a.py, transform: t.py, {SIGNATURE}",
            "versions.v1.transform",
            "`runtime: python` takes no transform: it runs your own code anyway",
            "Do it in `predict`, and delete `transform`.",
        ),
        (
            f"runtime: python, artifact: a.py, {SIGNATURE}, inputs: {{x: {{datatype: FP32, shape: [1]}}}}",
            "versions.v1.inputs",
            "is for the transform of other runtimes: `runtime: python` has a signature",
            "Move it to `signature.inputs`.",
        ),
        (
            "artifact: a.onnx, input: {kind: image}, inputs: {x: {datatype: BYTES, shape: [-1]}}",
            "versions.v1.inputs",
            "cannot be used with `input`, which declares what clients send",
            "Delete one.",
        ),
        (
            f"runtime: python, artifact: a.py, {SIGNATURE}, input: {{kind: image}}",
            "versions.v1.input",
            "is for models in ONNX: `runtime: python` gets what clients send",
            "Decode the images in `predict`, and delete `input`.",
        ),
        (
            "artifact: a.onnx, requirements: [pillow]",
            "versions.v1.requirements",
            "needs a `transform` that imports it",
            "Add `transform`, or delete it.",
        ),
    ],
)
def test_contradicting_keys_are_one_problem_with_a_remedy(version: str, place: str, message: str, hint: str) -> None:
    (problem,) = problems_of(version)
    assert f"{place}: {message}" in problem
    assert hint in problem
