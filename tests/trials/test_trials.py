"""Versions tried in a separate process: whether they open, and which requests end the process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from model_lambdas.function.runtime import FunctionSpec
from model_lambdas.onnx_model.session import Model
from tests.builders.graphs import value, write_graph, write_identity
from turnout.artifacts.artifact import Artifact, load_artifact
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.fatal_requests import FatalRequest
from turnout.trials.process import TrialEndedError, TrialProcess, TrialTimeoutError
from turnout.trials.requests import make_steps
from turnout.trials.trials import Trials

LEAST = -(2**63)


class CountingProcess(TrialProcess):
    """Counts the jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = 0

    def do(self, job: Mapping[str, Any], open_s: float, run_s: float) -> Iterator[dict[str, Any]]:
        self.jobs += 1
        return super().do(job, open_s, run_s)


@pytest.fixture
def process() -> Iterator[CountingProcess]:
    process = CountingProcess()
    yield process
    process.close()


@pytest.fixture
def trials(tmp_path: Path, process: CountingProcess) -> Trials:
    return Trials(tmp_path / "trials", process)


def write_vectorizer(path: Path) -> Artifact:
    """Write what skl2onnx makes for mixed columns; onnxruntime 1.32 aborts if it gets no rows."""
    nodes = [
        helper.make_node("Abs", ["a"], ["c"]),
        helper.make_node("FeatureVectorizer", ["c", "b"], ["d"], domain="ai.onnx.ml", inputdimensions=[2, 1]),
        helper.make_node("Neg", ["d"], ["y"]),
    ]
    inputs = [value("a", "FP32", ["n", 2]), value("b", "FP32", ["n", 1])]
    return load_artifact(write_graph(path, nodes, inputs, [value("y", "FP32", ["n", 3])]), None)


def write_division(path: Path, datatype: str = "INT64") -> Artifact:
    nodes = [helper.make_node("Div", ["a", "b"], ["y"])]
    inputs = [value("a", datatype, ["n"]), value("b", datatype, ["n"])]
    return load_artifact(write_graph(path, nodes, inputs, [value("y", datatype, ["n"])]), None)


def test_a_request_without_rows_is_fatal_and_the_operator_is_named(tmp_path: Path, trials: Trials) -> None:
    trial = trials.of(write_vectorizer(tmp_path / "m.onnx"), "m v1")
    assert trial.reason == ""
    assert trial.fatal == (FatalRequest(empty=(("a", 0), ("b", 0)), operator="FeatureVectorizer", ending="SIGABRT"),)
    assert trial.fatal[0].sentence == "FeatureVectorizer ends the process (SIGABRT) when `a` and `b` have no rows"


@pytest.mark.parametrize(("datatype", "least"), [("INT64", -(2**63)), ("INT32", -(2**31))])
def test_the_smallest_integer_divided_by_minus_one_is_fatal(
    tmp_path: Path, trials: Trials, datatype: str, least: int
) -> None:
    trial = trials.of(write_division(tmp_path / "m.onnx", datatype), "m v1")
    assert [(kind.values, kind.operator, kind.ending) for kind in trial.fatal] == [
        ((("a", least), ("b", -1)), "Div", "SIGFPE")
    ]


def test_a_division_by_a_constant_and_one_within_a_tensor_are_found(tmp_path: Path, trials: Trials) -> None:
    minus = numpy_helper.from_array(np.array([-1]), "b")
    path = write_graph(
        tmp_path / "c.onnx",
        [helper.make_node("Div", ["a", "b"], ["y"])],
        [value("a", "INT64", ["n"])],
        [value("y", "INT64", ["n"])],
        [minus],
    )
    trial = trials.of(load_artifact(path, None), "m v1")
    assert [kind.values for kind in trial.fatal] == [(("a", LEAST),)]
    columns = [numpy_helper.from_array(np.array([index]), f"i{index}") for index in (0, 1)]
    path = write_graph(
        tmp_path / "d.onnx",
        [
            helper.make_node("Gather", ["a", "i0"], ["c"], axis=1),
            helper.make_node("Gather", ["a", "i1"], ["d"], axis=1),
            helper.make_node("Div", ["c", "d"], ["y"]),
        ],
        [value("a", "INT64", ["n", 2])],
        [value("y", "INT64", ["n", 1])],
        columns,
    )
    trial = trials.of(load_artifact(path, None), "m v1")
    assert [kind.values for kind in trial.fatal] == [(("a", LEAST), ("a", -1))]


def test_results_are_cached_by_digest(tmp_path: Path, trials: Trials, process: CountingProcess) -> None:
    artifact = write_vectorizer(tmp_path / "m.onnx")
    first = trials.of(artifact, "m v1")
    jobs = process.jobs
    again = Trials(tmp_path / "trials", process).of(artifact, "other v2")
    assert (again, process.jobs) == (first, jobs)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": "0"}'])
def test_an_unreadable_or_outdated_entry_is_made_again(
    tmp_path: Path, trials: Trials, process: CountingProcess, damage: bytes
) -> None:
    artifact = write_vectorizer(tmp_path / "m.onnx")
    first = trials.of(artifact, "m v1")
    (entry,) = (tmp_path / "trials").glob("*.json")
    entry.write_bytes(damage)
    jobs = process.jobs
    assert trials.of(artifact, "m v1") == first
    assert process.jobs > jobs
    assert json.loads(entry.read_bytes())["fatal"]


def test_safe_operators_are_only_opened_on_request(tmp_path: Path, trials: Trials, process: CountingProcess) -> None:
    artifact = load_artifact(write_identity(tmp_path / "m.onnx"), None)
    assert trials.of(artifact, "m v1", whether_it_opens=False).fatal == ()
    assert process.jobs == 0
    assert trials.of(artifact, "m v1").reason == ""
    assert process.jobs == 1


def test_a_model_that_cannot_be_opened_is_tried_again_each_time(
    tmp_path: Path, trials: Trials, process: CountingProcess
) -> None:
    nodes = [helper.make_node("Nothing", ["x"], ["y"], domain="mine")]
    path = write_graph(tmp_path / "m.onnx", nodes, [value("x", "FP32", ["n"])], [value("y", "FP32", ["n"])])
    artifact = load_artifact(path, None)
    for count in (1, 2):
        assert "No opset import for domain 'mine'" in trials.of(artifact, "m v1").reason
        assert process.jobs == count


def test_an_endless_loop_and_a_tensor_larger_than_memory_end_nothing(tmp_path: Path, trials: Trials) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["a"]), helper.make_node("ReduceSum", ["a"], ["y"], keepdims=0)]
    path = write_graph(tmp_path / "m.onnx", nodes, [value("s", "INT64", ["n"])], [value("y", "FP32", [])])
    assert trials.of(load_artifact(path, None), "m v1") == trials.of(load_artifact(path, None), "m v1")
    assert trials.of(load_artifact(path, None), "m v1").fatal == ()


def test_the_folder_need_not_be_writable(tmp_path: Path, process: CountingProcess) -> None:
    (tmp_path / "file").touch()
    trials = Trials(tmp_path / "file" / "trials", process)
    assert len(trials.of(write_vectorizer(tmp_path / "m.onnx"), "m v1").fatal) == 1


def test_the_process_does_one_job_after_another_and_is_restarted(tmp_path: Path, process: CountingProcess) -> None:
    trials = Trials(tmp_path / "trials", process)
    trials.of(load_artifact(write_identity(tmp_path / "a.onnx"), None), "m v1")
    assert process._popen is not None
    first = process._popen.pid
    trials.of(load_artifact(write_identity(tmp_path / "b.onnx", "INT64"), None), "m v1")
    assert process._popen.pid == first
    os.kill(first, 9)
    process._popen.wait()
    trials.of(load_artifact(write_identity(tmp_path / "c.onnx", "BOOL"), None), "m v1")
    assert process._popen.pid != first


def test_a_silent_process_is_killed(process: CountingProcess, tmp_path: Path) -> None:
    artifact = write_division(tmp_path / "m.onnx")
    trials = Trials(tmp_path / "trials", process)
    trials.of(artifact, "m v1")
    with pytest.raises(TrialTimeoutError):
        list(process.do({"size_bytes": 0, "locate": 1, "never": True}, 0.0, 0.0))
    with pytest.raises(TrialEndedError):
        list(process.do({"no": "job"}, 60.0, 60.0))


class StuckProcess(TrialProcess):
    """A process in which each run with a kernel of size 0 hangs, as in onnxruntime 1.32."""

    def do(self, job: Mapping[str, Any], open_s: float, run_s: float) -> Iterator[dict[str, Any]]:
        if job["locate"] is not None:
            yield {"node": "Conv"}
            raise TrialTimeoutError
        for number, step in enumerate(make_steps(Signature.from_json(job["signature"]))):
            if number not in job["skip"]:
                yield {"step": number}
                if {("w", 2), ("w", 3)} & set(step.kind.empty):
                    raise TrialTimeoutError
        yield {"done": True}


def test_a_run_without_data_that_never_ends_is_fatal(tmp_path: Path) -> None:
    inputs = [value("x", "FP32", ["n", "c", "h", "w"]), value("w", "FP32", ["o", "c", "kh", "kw"])]
    convolution = helper.make_node("Conv", ["x", "w"], ["y"])
    path = write_graph(tmp_path / "m.onnx", [convolution], inputs, [value("y", "FP32", None)])
    trial = Trials(tmp_path / "trials", StuckProcess()).of(load_artifact(path, None), "m v1", whether_it_opens=False)
    assert [kind.sentence for kind in trial.fatal] == [
        "Conv never ends when `w` has size 0 in dimension 2",
        "Conv never ends when `w` has size 0 in dimension 3",
    ]


def test_matching_requests_are_rejected_and_others_are_not(tmp_path: Path, trials: Trials) -> None:
    artifact = write_vectorizer(tmp_path / "m.onnx")
    fatal = trials.of(artifact, "m v1").fatal
    model = Model(FunctionSpec("m", "v1", artifact.sha256, artifact.signature, artifact.path, fatal=fatal))
    with pytest.raises(RequestError) as caught:
        model.run({"a": np.empty((0, 2), np.float32), "b": np.empty((0, 1), np.float32)})
    assert (caught.value.status, caught.value.code) == (422, "REFUSED_BY_MODEL")
    assert caught.value.details["operator"] == "FeatureVectorizer"
    result = model.run({"a": np.ones((1, 2), np.float32), "b": np.ones((1, 1), np.float32)})
    assert result["y"].tolist() == [[-1, -1, -1]]


def test_a_kind_without_conditions_matches_every_request_and_one_with_a_missing_input_none() -> None:
    assert FatalRequest().matches({})
    assert not FatalRequest(empty=(("x", 0),)).matches({})
    assert not FatalRequest(empty=(("x", 1),)).matches({"x": np.empty(0)})
    assert not FatalRequest(values=(("x", 1),)).matches({"x": np.empty(0, np.int64)})
    assert FatalRequest(values=(("x", 1), ("x", 2))).matches({"x": np.array([2, 5, 1])})
    kind = FatalRequest((("x", 1), ("y", 0)), (("z", -1),), "Div", "SIGFPE")
    assert FatalRequest.from_json(json.loads(json.dumps(kind.to_json()))) == kind
    assert kind.sentence == (
        "Div ends the process (SIGFPE) when `y` has no rows and `x` has size 0 in dimension 1 and `z` holds -1"
    )
