"""What `turnout serve --capture` writes."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.builders.documents import FakeFunctions, gateway, operation, request, respond, stage
from tests.builders.graphs import write_identity
from turnout.gateway.editions.edition import make_local_plan
from turnout.gateway.functions.deferred import Deferred, Then
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.observers.capture import CaptureFile, capture_requests
from turnout.gateway.rules.stages import CanarySettings
from turnout.project.project import Project, load_project

MANIFEST = """
models:
  iris:
    versions:
      v1: {artifact: m.onnx}
      v2: {artifact: m.onnx, capture: {percent: 0, redact: [x]}}
stages: {dev: {serve: {iris: v1}}}
"""
PATHS = {
    "/models/iris/inference": {"post": operation("turnout-local_iris_${stageVariables.iris}:live")},
    "/routed": {"post": operation("turnout-local_iris_router:live")},
}
BODY = b'{"inputs": {"x": [[1.5]]}}'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    write_identity(folder / "m.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    return load_project(folder / "models.yaml")


def captured(
    project: Project,
    path: str = "/dev/models/iris/inference",
    *,
    answer: Any = None,
    percent: float = 0.0,
    version: str = "v1",
) -> list[dict[str, Any]]:
    """Return the lines of one request, and check that the other log gets it, too."""
    lines: list[str] = []
    others: list[int] = []
    answer = answer or {"statusCode": 200, "body": "{}"}
    ticks = iter([10.0, 10.0012])
    under_test = gateway(
        PATHS,
        FakeFunctions(lambda event: answer),
        stage(variables={"iris": version}, canary=CanarySettings(percent, {"iris": "v2"}, "d1")),
        observers=[
            capture_requests(lines.append, project, make_local_plan(project)),
            lambda *exchange: others.append(exchange[1].status),
        ],
        clock=lambda: 1790000000.0,
        monotonic=lambda: next(ticks),
    )
    response = respond(under_test, request(path, headers={"Content-Type": "application/json"}, body=BODY))
    assert others == [response.status]
    return [orjson.loads(line)["turnout_capture"] for line in lines]


def test_a_request_to_a_model_is_one_line(project: Project) -> None:
    assert captured(project) == [
        {
            "time": 1790000000.0,
            "stage": "dev",
            "model": "iris",
            "version": "v1",
            "canary": False,
            "status": 200,
            "duration_ms": 1.2,
            "resource": "/models/iris/inference",
            "content_type": "application/json",
            "body": {"inputs": {"x": [[1.5]]}},
        }
    ]


def test_canary_requests_are_marked_and_redacted_as_the_version_requires(project: Project) -> None:
    (entry,) = captured(project, percent=100)
    assert (entry["version"], entry["canary"], entry["body"]) == ("v2", True, {"inputs": {"x": [[0]]}})


def test_a_failure_of_the_model_is_captured(project: Project) -> None:
    (entry,) = captured(project, answer=Invocation(None, "failed", "it crashed"))
    assert entry["status"] == 502


@pytest.mark.parametrize(
    ("headers", "versions"),
    [
        ({"x-turnout-model": "iris", "X-Turnout-Version": "v2"}, ["v2"]),
        ({"x-turnout-model": "iris", "x-turnout-version": "v9"}, []),
        ({}, []),
    ],
)
def test_behind_a_router_the_version_is_read_from_the_answer(
    headers: dict[str, str], versions: list[str], project: Project
) -> None:
    rows = captured(project, "/dev/routed", answer={"statusCode": 200, "headers": headers, "body": "{}"})
    assert [entry["version"] for entry in rows] == versions


@pytest.mark.parametrize(("path", "version"), [("/dev/nowhere", "v1"), ("/dev/models/iris/inference", "no such")])
def test_requests_that_reach_no_model_are_not_captured(path: str, version: str, project: Project) -> None:
    assert captured(project, path, version=version) == []


def test_lines_are_appended_to_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "capture.jsonl"
    for text in ("one\n", "two\nthree\n"):
        stream = CaptureFile(path)
        stream.write(text)
        stream.flush()
    assert path.read_text() == "one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_has_reached_its_limit_gets_no_more_lines(tmp_path: Path) -> None:
    path = tmp_path / "capture.jsonl"
    stream = CaptureFile(path, most_bytes=10)
    stream.write("12345678\n")
    with pytest.raises(OSError, match="it has reached its limit"):
        stream.write("12\n")
    assert path.read_text() == "12345678\n"


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tmp_path: Path) -> None:
    """The disk is full after some bytes of the second line."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "capture.jsonl"
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        stream = CaptureFile(path)
        stream.write("12345\n")
        try:
            stream.write("1234567\n")
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EFBIG
    assert path.read_text() == "12345\n"


def test_a_pipe_can_be_captured_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    stream = CaptureFile(path)
    stream.write("line\n")
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        stream.write("line\n")


def test_a_body_with_a_content_encoding_is_read_in_a_thread(project: Project) -> None:
    """Decoding may produce a large body and would block the event loop."""
    here = threading.get_ident()
    lines: list[str] = []
    threads: list[int] = []

    class Watched(Deferred):
        def submit(self, size_bytes: int, job: Callable[[], Any], then: Then) -> bool:
            def watched() -> object:
                threads.append(threading.get_ident())
                return job()

            return super().submit(size_bytes, watched, then)

    async def run() -> None:
        deferred = Watched("test")
        under_test = gateway(
            PATHS,
            FakeFunctions(lambda event: {"statusCode": 200, "body": "{}"}),
            stage(variables={"iris": "v1"}),
            observers=[capture_requests(lines.append, project, make_local_plan(project), deferred)],
        )
        for headers, body in (({"content-ENCODING": "gzip"}, gzip.compress(BODY)), ({}, BODY + b" " * 100_000)):
            under_test.handle(request("/dev/models/iris/inference", headers=headers, body=body))
        deferred.finish(30)

    asyncio.run(run())
    assert [orjson.loads(line)["turnout_capture"]["body"] for line in lines] == [orjson.loads(BODY)] * 2
    assert len(threads) == 2
    assert here not in threads
