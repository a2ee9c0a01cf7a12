"""Captures and samples of a server with several workers, under load, as a canary's check and a replay use them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph, write_identity
from tests.builders.running_server import RunningServer, running_server
from turnout.canary.agreement import replay_pair
from turnout.canary.judging.observed import AgreementCounts
from turnout.canary.observation.samples import fetch_samples
from turnout.client.captured_lines import Sample, read_lines
from turnout.manifest.judgement import OutputRule

MANIFEST = """\
models:
  level:
    versions: {v1: {artifact: identity.onnx}, v2: {artifact: absolute.onnx}}
stages:
  dev: {serve: {level: v1}}
  prod:
    serve: {level: v1}
    canary: {percent: 50, serve: {level: v2}, agreement: {percent: 100, floor: 0.9}}
"""

REQUESTS = 200
NEGATIVE = 50
RULES = {"y": OutputRule("absolute", 0.001)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    write_identity(tmp_path / "identity.onnx", shape=("batch", 1))
    tensors = [value("x", "FP32", ["batch", 1])], [value("y", "FP32", ["batch", 1])]
    write_graph(tmp_path / "absolute.onnx", [helper.make_node("Abs", ["x"], ["y"])], *tensors)
    (tmp_path / "models.yaml").write_text(MANIFEST)
    with running_server(tmp_path, "--workers", "2", "--capture", str(tmp_path / "capture.jsonl")) as running:
        yield running


def send(server: RunningServer, stage: str) -> None:
    """Send `REQUESTS` requests over four connections; `NEGATIVE` of them have a level below 0, about which the versions
    disagree.
    """

    def send_some(first: int) -> None:
        with server.client() as client:
            for number in range(first, REQUESTS, 4):
                level = -1.0 if number < NEGATIVE else 1.0
                answer = client.post(f"/{stage}/models/level/inference", {"inputs": {"x": [[level]]}})
                assert answer.status == 200

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send_some, range(4)))


def url_of(server: RunningServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def captured(server: RunningServer) -> list[Sample]:
    with (server.project / "capture.jsonl").open("rb") as lines:
        return [sample for line in read_lines(lines) for sample in line.samples]


def test_sampled_canary_requests_are_answered_by_both_versions(server: RunningServer) -> None:
    send(server, "prod")
    samples = fetch_samples(url_of(server), "prod", 1000)
    assert len(samples) == REQUESTS
    assert {sample.version for sample in samples} == {"v1", "v2"}
    assert {(sample.version, sample.canary) for sample in samples} == {("v1", False), ("v2", True)}
    counts = replay_pair(url_of(server), samples, "level", "v1", "v2", stage="prod", rules=RULES)
    assert counts == AgreementCounts(REQUESTS, REQUESTS - NEGATIVE)
    assert fetch_samples(url_of(server), "prod") == []  # replayed requests do not belong to a canary


def test_a_stage_without_a_canary_is_not_sampled(server: RunningServer) -> None:
    send(server, "dev")
    assert fetch_samples(url_of(server), "dev") == []
    assert fetch_samples(url_of(server), "prod") == []


def test_every_worker_appends_complete_lines_to_the_capture_until_the_end(server: RunningServer) -> None:
    send(server, "dev")
    send(server, "prod")
    assert server.stop() == 0
    lines = (server.project / "capture.jsonl").read_bytes().splitlines()
    assert all(set(orjson.loads(line)) == {"turnout_capture"} for line in lines)
    samples = captured(server)
    assert len(lines) == len(samples) == 2 * REQUESTS
    assert sum(b"-1" in sample.body for sample in samples) == 2 * NEGATIVE
    assert {sample.status for sample in samples} == {200}
