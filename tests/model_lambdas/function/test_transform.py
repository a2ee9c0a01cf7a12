from __future__ import annotations

import logging
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_lambdas.function.handler import ModelFunction
from model_lambdas.function.own_code import DOUBT
from model_lambdas.function.runtime import ModelError
from model_lambdas.onnx_model.session import Model
from tests.builders.model_functions import binary_request, call, identity, open_request
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

ROW = [[1.0, 2.0, 3.0, 4.0]]


def transformed(folder: Path, source: str, datatype: str = "FP32", shape: tuple[int, ...] = (-1, 4)) -> ModelFunction:
    path = folder / "transform.py"
    path.write_text("import numpy as np\n" + textwrap.dedent(source))
    return identity(folder, datatype, shape, path)


def test_preprocess_and_postprocess_run_around_the_session(tmp_path: Path) -> None:
    function = transformed(
        tmp_path,
        """
        def preprocess(inputs):
            inputs["x"] *= 2
            return inputs
        def postprocess(outputs):
            return {"sum": outputs["y"].sum(axis=1), "text": np.array(["a"])}
        """,
    )
    assert call(function, {"inputs": {"x": ROW}}).json == {"outputs": {"sum": [20.0], "text": ["a"]}}
    assert call(function, {"instances": ROW}).json == {"predictions": [{"sum": 20.0, "text": "a"}]}
    body, headers = binary_request(np.array(ROW, np.float32).tobytes(), [1, 4], "FP32", outputs=[{"name": "sum"}])
    outputs = call(function, body, headers).json["outputs"]
    assert outputs == [{"name": "sum", "datatype": "FP32", "shape": [1], "data": [20.0]}]
    reply = call(function, {"inputs": {"x": ROW}, "outputs": ["y"]})
    assert (reply.status, reply.json["code"]) == (400, "UNKNOWN_OUTPUT")


def test_one_of_the_two_functions_is_enough(tmp_path: Path) -> None:
    only_before = transformed(tmp_path, "def preprocess(inputs): return {'x': inputs['x'] + np.float32(1)}")
    assert call(only_before, {"inputs": {"x": ROW}}).json == {"outputs": {"y": [[2.0, 3.0, 4.0, 5.0]]}}
    assert call(only_before, {"inputs": {"x": ROW}, "outputs": ["z"]}).json["code"] == "UNKNOWN_OUTPUT"
    only_after = transformed(tmp_path, "def postprocess(outputs): return {'n': np.array(len(outputs['y']))}")
    assert call(only_after, {"inputs": {"x": ROW}}).json == {"outputs": {"n": 1}}
    assert call(only_after, {"inputs": {"x": [1]}}).json["code"] == "SHAPE_MISMATCH"


def test_preprocess_gets_tensors_that_are_not_in_the_signature(tmp_path: Path) -> None:
    function = transformed(
        tmp_path,
        """
        def preprocess(inputs):
            assert all(type(text) is bytes for text in inputs["csv"].reshape(-1)), inputs
            return {"x": np.array([[float(cell) for cell in row.split(b",")] for row in inputs["csv"]], np.float32)}
        """,
    )
    expected = {"outputs": {"y": ROW}}
    assert call(function, {"inputs": {"csv": ["1,2,3,4"]}}).json == expected
    assert call(function, {"instances": [{"csv": "1,2,3,4"}]}).json == {"predictions": ROW}
    reply = call(function, open_request(["1,2,3,4"], [1], "BYTES", "csv"))
    assert reply.json["outputs"][0]["data"] == ROW[0]


def test_preprocess_gets_only_datatypes_of_the_protocol(tmp_path: Path) -> None:
    function = transformed(tmp_path, "def preprocess(inputs): return {'x': inputs['z'].astype(np.float32)}")
    assert call(function, open_request(ROW, [1, 4], "FP16", "z")).json["outputs"][0]["data"] == ROW[0]
    for datatype in ("FP8", 7, None):
        reply = call(function, {"inputs": [{"name": "z", "shape": [1, 4], "datatype": datatype, "data": ROW}]})
        assert (reply.status, reply.json["code"]) == (400, "DATATYPE_MISMATCH")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([2**64 - 1], "uint64"),
        ([1, 2.5], "float64"),
        ([True], "bool"),
        (["a"], "object"),
        ([[1], [2]], "int64"),
    ],
)
def test_tensors_outside_the_signature_have_the_datatype_of_their_values(
    tmp_path: Path, values: Any, dtype: str
) -> None:
    function = transformed(
        tmp_path,
        """
        def preprocess(inputs):
            return {"x": np.array([str(inputs["more"].dtype), str(inputs["more"].shape)], object)}
        """,
        "BYTES",
        (-1,),
    )
    shape = str(np.array(values).shape)
    assert call(function, {"inputs": {"more": values}}).json == {"outputs": {"y": [dtype, shape]}}


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("return {'x': inputs['x'].astype('float64')}", "DATATYPE_MISMATCH"),
        ("return {'x': inputs['x'][0]}", "SHAPE_MISMATCH"),
        ("return {'x': inputs['x'], 'z': inputs['x']}", "UNKNOWN_INPUT"),
        ("return {}", "MISSING_INPUT"),
    ],
)
def test_the_result_of_preprocess_is_checked_against_the_signature(tmp_path: Path, source: str, code: str) -> None:
    reply = call(transformed(tmp_path, f"def preprocess(inputs): {source}"), {"inputs": {"x": ROW}})
    assert (reply.status, reply.json["code"]) == (400, code)


SECRET = "s3cret-detail"


@pytest.mark.parametrize("step", ["preprocess", "postprocess"])
@pytest.mark.parametrize(
    "source",
    [
        f"raise AttributeError('{SECRET}')",
        f"raise OSError('{SECRET}')",
        f"raise ImportError('{SECRET}')",
        f"raise SystemExit('{SECRET}')",
        "return None",
        "return [1]",
        "return {1: np.zeros(1)}",
        "return {'x': np.zeros((1, 4), complex)}",
        "return {'x': np.array(['2020-01-01'], 'M8[D]')}",
        "return {'x': np.array([object()])}",
        "return {'x': [[1], [2, 3]]}",
    ],
)
def test_a_failing_transform_gets_a_500_with_the_traceback_only_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: str, source: str
) -> None:
    function = transformed(tmp_path, f"from turnout.protocol.errors import RequestError\ndef {step}(tensors): {source}")
    with caplog.at_level(logging.ERROR, "turnout.function"):
        reply = call(function, {"inputs": {"x": ROW}})
    assert (reply.status, reply.json["code"]) == (500, "TRANSFORM_FAILED")
    assert reply.json["error"] == f"test v1: {step} failed; see the function's log"
    assert SECRET not in orjson.dumps(reply.json).decode()
    assert "Traceback" in caplog.text
    assert step in caplog.text
    assert (SECRET in caplog.text) == (SECRET in source)


BAD_VALUES = {
    "ValueError": f"raise ValueError('{SECRET}')",
    "KeyError": "return {'x': tensors['nothing']}",
    "TypeError": "return {'x': tensors['x'] + 'a'}",
    "IndexError": "return {'x': tensors['x'][99]}",
    "JSONDecodeError": "import json; json.loads('{')",
    "UnicodeDecodeError": "b'\\xff'.decode()",
    "ZeroDivisionError": "1 / 0",
}


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_values_that_preprocess_cannot_use_are_a_client_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bad = f"if float(tensors['x'][0][0]) < 0:\n        {BAD_VALUES[kind]}\n    return tensors"
    function = transformed(tmp_path, f"def preprocess(tensors):\n    {bad}\n")
    for _ in range(3 * DOUBT):  # for any number of failures: it works for others
        reply = call(function, {"inputs": {"x": [[-1.0, 2.0, 3.0, 4.0]]}})
        assert (reply.status, reply.json["code"]) == (422, "REFUSED_BY_TRANSFORM")
        assert kind in reply.json["error"]
        assert SECRET not in orjson.dumps(reply.json).decode()
        assert call(function, {"inputs": {"x": ROW}}).status == 200
    assert "Traceback" in caplog.text


def test_preprocess_that_never_works_is_a_failure_of_the_version(tmp_path: Path) -> None:
    function = transformed(tmp_path, "def preprocess(tensors): return {'x': tensors['text']}")
    statuses = [call(function, {"inputs": {"x": ROW}}).status for _ in range(DOUBT + 2)]
    assert statuses == [422] * DOUBT + [500] * 2


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_values_that_postprocess_cannot_use_are_a_failure_of_the_version(tmp_path: Path, kind: str) -> None:
    function = transformed(tmp_path, f"def postprocess(tensors):\n    {BAD_VALUES[kind]}\n")
    assert call(function, {"inputs": {"x": ROW}}).status == 500


def declared(folder: Path, source: str, inputs: Sequence[TensorSpec] = (), outputs: Sequence[TensorSpec] = ()) -> Any:
    """A version with declared tensors for its transform."""
    spec = transformed(folder, source).spec
    public = Signature(tuple(inputs) or spec.signature.inputs, tuple(outputs) or spec.signature.outputs)
    return ModelFunction(replace(spec, public=public), Model)


CSV = "return {'x': np.array([row.split(b',') for row in inputs['csv'].tolist()], np.float32)}"


def test_declared_inputs_and_the_result_of_preprocess_are_checked(tmp_path: Path) -> None:
    function = declared(tmp_path, f"def preprocess(inputs): {CSV}", inputs=[TensorSpec("csv", "BYTES", (-1,))])
    assert call(function, {"inputs": {"csv": ["1,2,3,4"]}}).json == {"outputs": {"y": ROW}}
    assert call(function, {"instances": [{"csv": "1,2,3,4"}]}).json == {"predictions": ROW}
    for body, code in [
        ({"inputs": {"x": ROW}}, "UNKNOWN_INPUT"),
        ({"inputs": {}}, "MISSING_INPUT"),
        ({"inputs": {"csv": [["1,2,3,4"]]}}, "SHAPE_MISMATCH"),
        ({"inputs": {"csv": [7]}}, "INVALID_VALUE"),
        ({"inputs": {"csv": ["1,2,3"]}}, "SHAPE_MISMATCH"),
    ]:
        reply = call(function, body)
        assert (reply.status, reply.json["code"]) == (400, code), body
    assert call(function, {"inputs": {"csv": ["1,2,3,four"]}}).status == 422


@pytest.mark.parametrize(
    ("returned", "status", "code"),
    [
        pytest.param("{'other': np.zeros((1, 4), np.float32)}", 500, "TRANSFORM_FAILED", id="name"),
        pytest.param("{}", 500, "TRANSFORM_FAILED", id="nothing"),
        pytest.param("{'x': np.zeros((1, 4))}", 500, "TRANSFORM_FAILED", id="datatype"),
        pytest.param("{'x': np.zeros((1, 5), np.float32)}", 400, "SHAPE_MISMATCH", id="shape-may-follow-from-values"),
    ],
)
def test_a_wrong_result_of_preprocess_for_declared_inputs_is_a_failure_of_the_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, returned: str, status: int, code: str
) -> None:
    source = f"def preprocess(inputs): return {returned}"
    function = declared(tmp_path, source, inputs=[TensorSpec("csv", "BYTES", (-1,))])
    reply = call(function, open_request(["1,2,3,4"], [1], "BYTES", "csv"))
    assert (reply.status, reply.json["code"]) == (status, code)
    assert ("preprocess returned a wrong tensor" in caplog.text) is (status == 500)


def test_outputs_must_have_the_declared_names_and_datatypes(tmp_path: Path) -> None:
    outputs = [TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,))]
    good = "return {'score': outputs['y'][:, 0], 'label': np.array(['a']), 'more': outputs['y']}"
    function = declared(tmp_path, f"def postprocess(outputs): {good}", outputs=outputs)
    assert call(function, {"inputs": {"x": ROW}}).json == {"outputs": {"label": ["a"], "score": [1.0]}}
    assert call(function, {"inputs": {"x": ROW}, "outputs": ["score"]}).json == {"outputs": {"score": [1.0]}}
    assert call(function, {"inputs": {"x": ROW}, "outputs": ["y"]}).json["code"] == "UNKNOWN_OUTPUT"
    for bad in ("return {'label': np.array(['a'])}", "return {'label': np.array(['a']), 'score': np.ones(1)}"):
        function = declared(tmp_path, f"def postprocess(outputs): {bad}", outputs=outputs)
        reply = call(function, {"inputs": {"x": ROW}})
        assert (reply.status, reply.json["code"]) == (500, "TRANSFORM_FAILED")


@pytest.mark.parametrize("step", ["preprocess", "postprocess"])
def test_a_transform_may_reject_a_request(tmp_path: Path, caplog: pytest.LogCaptureFixture, step: str) -> None:
    source = f"""
    from turnout.protocol.errors import Refused
    def {step}(tensors):
        raise Refused("the sound is too short", seconds=np.float32(0.5))
    """
    reply = call(transformed(tmp_path, source), {"inputs": {"x": ROW}})
    assert (reply.status, reply.json["code"], reply.json["error"]) == (
        422,
        "REFUSED_BY_TRANSFORM",
        "the sound is too short",
    )
    assert reply.json["details"] == {"seconds": 0.5}
    assert not caplog.records


def test_postprocess_gets_bytes_and_may_return_what_only_binary_can_carry(tmp_path: Path) -> None:
    source = """
    def postprocess(outputs):
        assert all(type(text) is bytes for text in outputs["y"])
        return {"png": np.array([b"\\xff" + text for text in outputs["y"]], object)}
    """
    function = transformed(tmp_path, source, "BYTES", (-1,))
    request = open_request(["a"], [1], "BYTES")
    reply = call(function, request)
    assert (reply.status, reply.json["code"]) == (400, "OUTPUT_NEEDS_BINARY")
    assert call(function, {**request, "parameters": {"binary_data_output": True}}).tail == b"\2\0\0\0\xffa"


def test_preprocess_may_return_any_memory_layout(tmp_path: Path) -> None:
    for expression in ("np.asfortranarray(x)", "x.astype('>f4')", "np.repeat(x, 2, axis=1)[:, ::2]", "x.tolist()"):
        source = f"def preprocess(inputs):\n    x = inputs['x']\n    return {{'x': {expression}}}"
        function = transformed(tmp_path, source)
        reply = call(function, {"inputs": {"x": [*ROW, [5, 6, 7, 8]]}})
        if "tolist" in expression:
            assert reply.json["code"] == "DATATYPE_MISMATCH"  # numpy makes FP64 of lists of floats
        else:
            assert reply.json == {"outputs": {"y": [*ROW, [5.0, 6.0, 7.0, 8.0]]}}, expression


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "test v1: transform.py has neither a function `preprocess` nor `postprocess`"),
        ("preprocess = 7", "test v1: `preprocess` of transform.py is not a function"),
        ("1 / 0", "test v1: transform.py cannot be run: ZeroDivisionError: division by zero"),
        ("raise SystemExit", "test v1: transform.py cannot be run: SystemExit: "),
        ("def (", "test v1: transform.py cannot be run: SyntaxError: "),
    ],
)
def test_a_file_that_is_not_a_transform_is_an_error_when_loaded(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        transformed(tmp_path, source).load()
    assert str(caught.value).startswith(message)


def test_a_file_that_is_not_python_is_an_error_when_loaded(tmp_path: Path) -> None:
    path = tmp_path / "transform.txt"
    path.write_text("")
    with pytest.raises(ModelError, match="not a Python file"):
        identity(tmp_path, transform=path).load()


def test_a_transform_may_define_dataclasses(tmp_path: Path) -> None:
    source = """
    from __future__ import annotations
    from dataclasses import dataclass
    @dataclass
    class Row:
        name: str
    def postprocess(outputs):
        return {"name": np.array([Row("a").name])}
    """
    path = tmp_path / "transform.py"
    path.write_text(textwrap.dedent(source).strip().replace("@dataclass\n", "import numpy as np\n@dataclass\n", 1))
    assert call(identity(tmp_path, transform=path), {"inputs": {"x": ROW}}).json == {"outputs": {"name": ["a"]}}
