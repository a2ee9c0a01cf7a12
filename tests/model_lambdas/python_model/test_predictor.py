from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_lambdas.function.handler import ModelFunction
from model_lambdas.function.own_code import DOUBT
from model_lambdas.function.runtime import Cancellation, FunctionSpec, ModelError, RunCancelled
from model_lambdas.python_model.predictor import Model
from tests.builders.model_functions import binary_request, call
from tests.builders.python_project import write_version
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.runtimes.python import digest_of

FP32 = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))
ROW = [1.0, 2.0, 3.0, 4.0]


def spec_of(path: Path, signature: Signature = FP32, **fields: Any) -> FunctionSpec:
    return FunctionSpec("test", "v1", "0" * 64, signature, path, **fields)


def write(folder: Path, predict: str, load: str = "pass", head: str = "import numpy as np") -> Path:
    """Write a file whose two functions have these bodies."""
    path = folder / "predict.py"
    path.write_text(f"{head}\ndef load(folder):\n    {load}\ndef predict(inputs):\n    {predict}\n")
    return path


def function_of(path: Path, signature: Signature = FP32) -> ModelFunction:
    return ModelFunction(spec_of(path, signature), Model)


def test_a_version_answers_in_every_form(tmp_path: Path) -> None:
    function = function_of(write_version(tmp_path / "v1", 10))
    assert call(function, {"instances": [ROW]}).json == {"predictions": [[10, 20, 30, 40]]}
    assert call(function, {"inputs": {"x": [ROW]}}).json == {"outputs": {"y": [[10, 20, 30, 40]]}}
    body, headers = binary_request(np.array([ROW], "<f4").tobytes(), [1, 4], "FP32")
    reply = call(function, body, headers)
    assert reply.status == 200
    assert reply.json["outputs"][0]["data"] == [10, 20, 30, 40]
    assert reply.headers["x-turnout-version"] == "v1"


def test_load_gets_the_folder_once_and_before_the_first_call(tmp_path: Path) -> None:
    head = "calls = []"
    path = write(tmp_path, "return {'y': inputs['x'] * len(calls)}", "calls.append(folder / 'x')", head)
    function = function_of(path)
    function.load()
    for _ in range(3):
        assert call(function, {"instances": [ROW]}).json == {"predictions": [ROW]}


@pytest.mark.parametrize(
    ("value", "status", "code", "words"),
    [
        (-1, 422, "REFUSED_BY_MODEL", "-1 is refused"),
        (-2, 422, "REFUSED_BY_MODEL", "test v1: predict cannot use these values (ValueError)"),
        (-3, 500, "MODEL_FAILED", "test v1 failed"),
        (-4, 500, "MODEL_FAILED", "test v1 failed"),
    ],
)
def test_a_client_error_is_422_and_a_failure_of_the_version_is_500(
    tmp_path: Path, value: float, status: int, code: str, words: str
) -> None:
    function = function_of(write_version(tmp_path / "v1", 10))
    reply = call(function, {"instances": [[value, 0, 0, 0]]})
    assert (reply.status, reply.json["code"]) == (status, code)
    assert words in reply.json["error"]
    assert "secret" not in str(reply.json)


def test_details_of_a_rejection_reach_the_client(tmp_path: Path) -> None:
    reply = call(function_of(write_version(tmp_path / "v1", 10)), {"instances": [[-1, 0, 0, 0]]})
    assert reply.json["details"] == {"value": -1}


def test_a_request_that_does_not_match_the_signature_never_reaches_predict(tmp_path: Path) -> None:
    function = function_of(write(tmp_path, "raise SystemExit"))
    for body, code in (
        ({"inputs": {"x": [[1, 2, 3]]}}, "SHAPE_MISMATCH"),
        ({"inputs": {"z": [ROW]}}, "UNKNOWN_INPUT"),
        ({"inputs": []}, "MISSING_INPUT"),
        ({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}, "DATATYPE_MISMATCH"),
    ):
        reply = call(function, body)
        assert (reply.status, reply.json["code"]) == (400, code)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("{'y': inputs['x'].astype('f8')}", "predict returned FP64 for `y`, declared FP32"),
        ("{'y': inputs['x'][:, :2]}", "predict returned the shape [1, 2] for `y`, declared [-1, 4]"),
        ("{'y': inputs['x'].ravel()}", "predict returned the shape [4] for `y`, declared [-1, 4]"),
        ("{'z': inputs['x']}", "predict returned no `y`, declared in the signature; it returned `z`"),
        ("{}", "it returned nothing"),
        ("None", "predict returned NoneType, not a dict of arrays"),
        ("{7: inputs['x']}", "predict returned the name 7, not a str"),
        ("{'y': [object()]}", "an object array holds object"),
        ("exec('raise SystemExit(3)')", "predict raised SystemExit: 3"),
    ],
)
def test_outputs_that_do_not_match_their_declaration_are_a_failure_of_the_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, returned: str, words: str
) -> None:
    with caplog.at_level(logging.ERROR):
        reply = call(function_of(write(tmp_path, f"return {returned}")), {"instances": [ROW]})
    assert (reply.status, reply.json["code"]) == (500, "MODEL_FAILED")
    assert words in caplog.text


def test_only_the_requested_outputs_are_returned(tmp_path: Path) -> None:
    signature = Signature(FP32.inputs, (*FP32.outputs, TensorSpec("n", "INT64", ())))
    function = function_of(write(tmp_path, "return {'y': inputs['x'], 'n': np.int64(7), 'more': 1}"), signature)
    reply = call(function, {"inputs": {"x": [ROW]}, "outputs": [{"name": "n"}]})
    assert reply.json == {"outputs": {"n": 7}} or reply.json["outputs"] == {"n": [7]}
    assert set(call(function, {"inputs": {"x": [ROW]}}).json["outputs"]) == {"y", "n"}


def test_texts_are_passed_as_bytes_and_may_be_returned_as_any_text(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("t", "BYTES", (-1,)),), (TensorSpec("u", "BYTES", (-1,)),))
    body = "return {'u': np.array([text.decode().upper() for text in inputs['t'].tolist()])}"
    function = function_of(write(tmp_path, body), signature)
    assert call(function, {"inputs": {"t": ["a", "é"]}}).json == {"outputs": {"u": ["A", "É"]}}
    model = Model(spec_of(tmp_path / "predict.py", signature))
    assert model.run({"t": np.array(["a"], object)})["u"].tolist() == [b"A"]  # a graph's step may pass `str`


def test_a_predict_that_never_worked_is_blamed(tmp_path: Path) -> None:
    function = function_of(write(tmp_path, "return {}['missing']"))
    statuses = [call(function, {"instances": [ROW]}).status for _ in range(DOUBT + 2)]
    assert statuses == [422] * DOUBT + [500] * 2


def test_a_predict_that_has_worked_is_not_blamed(tmp_path: Path) -> None:
    function = function_of(write_version(tmp_path / "v1", 10))
    assert call(function, {"instances": [ROW]}).status == 200
    assert {call(function, {"instances": [[-2, 0, 0, 0]]}).status for _ in range(3 * DOUBT)} == {422}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def load(folder): pass", "test v1: predict.py has no function `predict`"),
        ("def predict(inputs): pass", "test v1: predict.py has no function `load`"),
        ("load = 7\ndef predict(inputs): pass", "test v1: `load` of predict.py is not a function"),
        ("import nothing_like_it", "test v1: predict.py cannot be run: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "test v1: predict.py cannot be run: SystemExit: 3"),
        (
            "def load(folder): open(folder / 'gone')\ndef predict(inputs): pass",
            "test v1: `load` of predict.py failed: FileNotFoundError",
        ),
        (
            "def load(folder): raise SystemExit(4)\ndef predict(inputs): pass",
            "test v1: `load` of predict.py failed: SystemExit: 4",
        ),
    ],
)
def test_a_version_that_cannot_be_opened_reports_the_reason(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "predict.py").write_text(source)
    with pytest.raises(ModelError) as raised:
        Model(spec_of(tmp_path / "predict.py"))
    assert words in str(raised.value)


def test_modules_of_two_versions_are_not_shared(tmp_path: Path) -> None:
    before = set(sys.modules)
    one, two = (Model(spec_of(write_version(tmp_path / f"v{factor}", 1, factor))) for factor in (2, 3))
    answers = [model.run({"x": np.ones((1, 4), np.float32)})["y"][0].tolist() for model in (one, two, one)]
    assert answers == [[2] * 4, [3] * 4, [2] * 4]
    assert "helper" not in set(sys.modules) - before


def test_only_files_of_the_version_are_imported_from_a_shared_folder(tmp_path: Path) -> None:
    path = write_version(tmp_path / "v1", 1)
    (path.parent / "stranger.py").write_text("")
    path.write_text("import stranger\n" + path.read_text())
    files = (path.parent / "helper.py", path.parent / "factor.json")
    with pytest.raises(ModelError, match="No module named 'stranger'"):
        Model(FunctionSpec("test", "v1", digest_of(path, files), FP32, path, external_files=files, copies=tmp_path))


def test_changed_files_are_not_served_under_the_old_digest(tmp_path: Path) -> None:
    path = write_version(tmp_path / "v1", 1)
    files = (path.parent / "helper.py", path.parent / "factor.json")
    spec = FunctionSpec("test", "v1", digest_of(path, files), FP32, path, external_files=files, copies=tmp_path)
    assert Model(spec).run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[1] * 4]
    (path.parent / "factor.json").write_text("2")
    with pytest.raises(ModelError, match=r"test v1: the files of predict\.py have changed since models\.yaml was read"):
        Model(spec)
    (path.parent / "factor.json").unlink()
    with pytest.raises(ModelError, match=r"factor\.json cannot be read"):
        Model(spec)


def test_a_run_canceled_in_advance_does_not_start(tmp_path: Path) -> None:
    model = Model(spec_of(write(tmp_path, "raise RuntimeError")))
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(RunCancelled):
        model.run({"x": np.ones((1, 4), np.float32)}, (), cancellation)
