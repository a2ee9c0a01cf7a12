from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from model_lambdas.function.runtime import Cancellation, ModelError, RunCancelled
from tests.builders.graphs import value, write_graph
from tests.builders.model_functions import DIGEST, call, identity, make_function, open_request, proxy_event, read_reply
from turnout.protocol.aws.events import PING
from turnout.protocol.tensors.datatypes import TensorSpec

ROW = [[1.0, 2.0, 3.0, 4.0]]


def test_every_answer_names_its_version(tmp_path: Path) -> None:
    function = identity(tmp_path)
    for body in ({"inputs": {"x": ROW}}, {"inputs": {"x": 1}}, b"{"):
        headers = call(function, body).headers
        assert headers == {
            "Content-Type": "application/json",
            "x-turnout-model": "test",
            "x-turnout-version": "v1",
            "x-turnout-digest": DIGEST[:12],
            "x-turnout-canary": "false",
        }


def test_ping_is_answered_once_the_session_is_open(tmp_path: Path) -> None:
    reply = read_reply(identity(tmp_path)(PING, None))
    assert (reply.status, reply.json) == (200, {"ready": True})
    assert make_function(tmp_path / "gone.onnx", [], [])(PING, None)["statusCode"] == 500


@pytest.mark.parametrize(
    ("variables", "canary"),
    [
        (None, "false"),
        ({}, "false"),
        ({"canary": "true"}, "true"),
        ({"canary": "false"}, "false"),
        ({"canary": "True"}, "false"),
    ],
)
def test_the_canary_is_read_from_the_stage_variables(tmp_path: Path, variables: Any, canary: str) -> None:
    function = identity(tmp_path)
    for body in ('{"inputs": {"x": []}}', "{"):
        answer = function(proxy_event(body, stageVariables=variables), None)
        assert answer["headers"]["x-turnout-canary"] == canary
    event = proxy_event("{")
    del event["stageVariables"]
    assert function(event, None)["headers"]["x-turnout-canary"] == "false"


def test_an_event_may_contain_text(tmp_path: Path) -> None:
    reply = read_reply(identity(tmp_path)(proxy_event('{"inputs": {"x": [[1, 2, 3, 4]]}}'), None))
    assert reply.json == {"outputs": {"y": ROW}}


def test_an_event_without_a_body_gets_a_400(tmp_path: Path) -> None:
    reply = read_reply(identity(tmp_path)(proxy_event(None, {}), None))
    assert (reply.status, reply.json["code"]) == (400, "INVALID_JSON")


def test_answers_do_not_share_their_headers(tmp_path: Path) -> None:
    function = identity(tmp_path)
    function(proxy_event("{"), None)["headers"]["x-turnout-model"] = "changed"
    assert call(function, b"{").headers["x-turnout-model"] == "test"


def test_named_inputs_are_answered_in_the_form_of_the_protocol(tmp_path: Path) -> None:
    reply = call(identity(tmp_path), open_request(ROW, [1, 4], id="é"))
    assert reply.json == {
        "model_name": "test",
        "model_version": "v1",
        "id": "é",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": ROW[0]}],
    }


def test_loading_happens_once_for_all_threads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    transform = tmp_path / "transform.py"
    transform.write_text(
        "import logging\nlogging.getLogger('loads').warning('loaded')\ndef preprocess(inputs): return inputs\n"
    )
    function = identity(tmp_path, transform=transform)
    gate = threading.Barrier(8)

    def ask(index: int) -> int:
        gate.wait(10)
        if index % 2:
            function.load()
            return 200
        return call(function, {"inputs": {"x": ROW}}).status

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [200] * 8
    assert caplog.messages == ["loaded"]


def test_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    function = identity(tmp_path)

    def ask(index: int) -> Any:
        return call(function, {"inputs": {"x": [[index, 0, 0, 0]]}}).json

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(400)))
    assert answers == [{"outputs": {"y": [[float(index), 0.0, 0.0, 0.0]]}} for index in range(400)]


def test_a_model_that_cannot_be_opened_gets_a_500_without_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"garbage")
    function = make_function(tmp_path / "bad.onnx", [TensorSpec("x", "FP32", (-1,))], [])
    with pytest.raises(ModelError):
        function.load()
    with caplog.at_level(logging.ERROR, "turnout.function"):
        reply = call(function, {"inputs": {"x": [1]}})
    assert (reply.status, reply.json["code"]) == (500, "MODEL_FAILED")
    assert reply.json["error"] == "test v1 failed"
    assert "onnxruntime cannot open bad.onnx" in caplog.text


def test_values_that_the_model_rejects_get_a_422(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    inputs = [value("x", "FP32", ["n"]), value("s", "INT64", ["k"])]
    artifact = write_graph(tmp_path / "r.onnx", nodes, inputs, [value("y", "FP32", None)])
    specs = [TensorSpec("x", "FP32", (-1,)), TensorSpec("s", "INT64", (-1,))]
    function = make_function(artifact, specs, [TensorSpec("y", "FP32", None)])
    reply = call(function, {"inputs": {"x": [1, 2, 3], "s": [2, 2]}})
    assert (reply.status, reply.json["code"]) == (422, "REFUSED_BY_MODEL")
    assert reply.json["error"].startswith("test v1 rejected the values: Reshape: ")
    assert "/" not in reply.json["error"]
    assert call(function, {"inputs": {"x": [1, 2, 3, 4], "s": [2, 2]}}).json == {"outputs": {"y": [[1, 2], [3, 4]]}}


def test_an_empty_output_whose_shape_is_too_large_for_numpy_is_rejected(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], allowzero=1)]
    inputs = [value("x", "FP32", ["n"]), value("s", "INT64", ["k"])]
    artifact = write_graph(tmp_path / "r.onnx", nodes, inputs, [value("y", "FP32", None)])
    specs = [TensorSpec("x", "FP32", (-1,)), TensorSpec("s", "INT64", (-1,))]
    function = make_function(artifact, specs, [TensorSpec("y", "FP32", None)])
    rest = open_request([0, 2**62, 2**62], [3], "INT64", "s")["inputs"]
    reply = call(function, {"inputs": [*open_request([], [0])["inputs"], *rest]})
    assert (reply.status, reply.json["code"]) == (422, "REFUSED_BY_MODEL")


def test_a_canceled_call_raises(tmp_path: Path) -> None:
    cancellation = Cancellation()
    context = SimpleNamespace(cancellation=cancellation)
    function = identity(tmp_path)
    assert call(function, {"inputs": {"x": ROW}}, context=context).status == 200
    cancellation.cancel()
    with pytest.raises(RunCancelled):
        call(function, {"inputs": {"x": ROW}}, context=context)


def test_a_call_that_may_not_run_raises_before_it_runs(tmp_path: Path) -> None:
    seen: list[Any] = []

    def may_run(inputs: Any) -> bool:
        seen.append({name: values.shape for name, values in inputs.items()})
        return len(seen) > 1

    context = SimpleNamespace(may_run=may_run)
    function = identity(tmp_path)
    with pytest.raises(RunCancelled):
        call(function, {"inputs": {"x": ROW}}, context=context)
    assert call(function, {"inputs": {"x": ROW}}, context=context).status == 200
    assert seen[0] == seen[1]
    assert list(seen[0]) == ["x"]


def test_64_bit_integers_are_written_in_every_form(tmp_path: Path) -> None:
    for datatype, number in (("INT64", -(2**63)), ("UINT64", 2**64 - 1)):
        scalar = identity(tmp_path, datatype, ())
        assert call(scalar, {"inputs": {"x": number}}).json == {"outputs": {"y": number}}
        nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
        outputs = [value("y", datatype, ["n"]), value("z", datatype, ["n"])]
        artifact = write_graph(tmp_path / f"{datatype}-2.onnx", nodes, [value("x", datatype, ["n"])], outputs)
        specs = [TensorSpec("y", datatype, (-1,)), TensorSpec("z", datatype, (-1,))]
        double = make_function(artifact, [TensorSpec("x", datatype, (-1,))], specs)
        assert call(double, {"instances": [number]}).json == {"predictions": [{"y": number, "z": number}]}


def test_an_output_with_a_wrongly_declared_shape_is_returned_as_it_is(tmp_path: Path) -> None:
    nodes = [helper.make_node("Expand", ["x", "s"], ["y"])]
    inputs = [value("x", "FP32", ["n"]), value("s", "INT64", ["k"])]
    artifact = write_graph(tmp_path / "e.onnx", nodes, inputs, [value("y", "FP32", None)])
    specs = [TensorSpec("x", "FP32", (-1,)), TensorSpec("s", "INT64", (-1,))]
    function = make_function(artifact, specs, [TensorSpec("y", "FP32", (1, -1))])
    result = call(function, {"inputs": {"x": [1], "s": [2, 1, 2]}}).json
    assert np.array(result["outputs"]["y"]).shape == (2, 1, 2)


def test_an_answer_over_the_limit_of_lambda_is_rejected_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["y"]),
        helper.make_node("Identity", ["shape"], ["s"]),
    ]
    artifact = write_graph(
        tmp_path / "m.onnx",
        nodes,
        [value("x", "FP32", ["n", "m"])],
        [value("y", "FP32", ["n", "m"]), value("s", "INT64", [2])],
    )
    function = make_function(
        artifact,
        [TensorSpec("x", "FP32", (-1, -1), ("n", "m"))],
        [TensorSpec("y", "FP32", (-1, -1), ("n", "m")), TensorSpec("s", "INT64", (2,))],
    )
    assert call(function, open_request([1.5], [1, 1])).status == 200
    runs: list[object] = []
    assert function._loaded is not None
    run = function._loaded.model.run
    monkeypatch.setattr(function._loaded.model, "run", lambda *given: runs.append(given) or run(*given))
    large = open_request([1.5] * 1_600_000, [1000, 1600])
    reply = call(function, large)
    assert (reply.status, reply.json["code"], runs) == (413, "ANSWER_TOO_LARGE", [])
    # If a small output or a form that fits is requested, it runs.
    assert call(function, {**large, "outputs": [{"name": "s"}]}).status == 200
    assert len(runs) == 1
