"""`turnout serve --otlp-endpoint`: spans as a real OTLP/HTTP collector receives them; test_isolated_clients covers
isolated functions.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.otlp_receiver import CALLER, OtlpReceiver, ReceivedSpan, otlp_receiver, tree_of
from tests.builders.running_server import RunningServer, running_server, serve_command
from tests.builders.waiting import wait_until

MANIFEST = """
platform: shop
models:
  plain: {versions: {v1: {artifact: echo.onnx}}}
  routed:
    versions:
      v1: {artifact: echo.onnx}
      v2: {artifact: echo.onnx, transform: broken.py}
      v3: {artifact: echo.onnx}
    routing: {fallback: v1, shadow: {version: v3, percent: 100}}
  chain:
    graph: {sequence: [{model: plain, version: v1}, {model: plain, inputs: {x: y}}]}
stages:
  dev: {serve: {plain: v1, routed: v2}, async: {}}
"""
BROKEN = "def preprocess(inputs):\n    raise RuntimeError('no')\n"

BODY = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
SERVER, INTERNAL = 2, 1


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def write_project(folder: Path) -> Path:
    write_identity(folder / "echo.onnx")
    (folder / "broken.py").write_text(BROKEN)
    (folder / "models.yaml").write_text(MANIFEST)
    return folder


@pytest.fixture(scope="module")
def server(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_project(tmp_path_factory.mktemp("traced"))
    with running_server(project, "--no-access-log", "--workers", "2", "--otlp-endpoint", receiver.url) as running:
        yield running


def call(server: RunningServer, path: str, trace: str, flags: str = "01", **headers: str) -> int:
    return server.post(path, BODY, traceparent=f"00-{trace}-{CALLER}-{flags}", **headers).status


def named(spans: Sequence[ReceivedSpan], name: str) -> ReceivedSpan:
    return next(span for span in spans if span.name == name)


def test_a_request_its_function_and_its_session_are_one_trace(server: RunningServer, receiver: OtlpReceiver) -> None:
    trace = secrets.token_hex(16)
    assert (
        call(server, "/dev/models/plain/inference?secret=1", trace, tracestate="a=b,c=d", user_agent="probe/1") == 200
    )
    spans = receiver.trace(trace, 3)
    route = "POST /models/plain/inference"
    assert tree_of(spans) == {route: "caller", "plain v1": route, "session.run": "plain v1"}
    request, function, session = named(spans, route), named(spans, "plain v1"), named(spans, "session.run")
    assert (request.kind, function.kind) == (SERVER, INTERNAL)
    assert (
        request.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/models/plain/inference",
            "http.response.status_code": 200,
            "url.path": "/dev/models/plain/inference",
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": server.port,
            "client.address": "127.0.0.1",
            "user_agent.original": "probe/1",
            "turnout.stage": "dev",
            "turnout.share": "baseline",
            "turnout.model": "plain",
            "turnout.version": "v1",
        }.items()
    )
    assert function.attributes.items() >= {"turnout.function": "shop-local_plain_v1", "turnout.alias": "live"}.items()
    assert not [value for value in request.attributes.values() if "secret" in str(value)]
    assert all(span.trace_state == "a=b,c=d" and not span.is_error for span in spans)
    assert request.start_ns <= session.start_ns <= session.end_ns <= function.end_ns <= request.end_ns
    assert session.resource["service.name"] == "shop"


def test_calls_of_a_router_are_its_children_including_fallback_and_shadow(
    server: RunningServer, receiver: OtlpReceiver
) -> None:
    trace = secrets.token_hex(16)
    assert call(server, "/dev/models/routed/inference", trace) == 200
    route = "POST /models/routed/inference"
    spans = receiver.trace(trace, 7)
    assert tree_of([span for span in spans if span.name != "session.run"]) == {
        route: "caller",
        "routed router": route,
        "routed v1": "routed router",
        "routed v2": "routed router",
        "routed v3": "routed router",
    }
    assert named(spans, "routed v3").attributes["turnout.shadow"] is True
    failed = named(spans, "routed v2")
    assert failed.is_error
    assert failed.attributes.items() >= {"error.type": "500", "http.response.status_code": 500}.items()
    answered = {"turnout.version": "v1", "turnout.route": "fallback", "turnout.fallback_from": "v2"}
    assert named(spans, route).attributes.items() >= answered.items()
    names = {span.id: span.name for span in spans}
    assert sorted(names[span.parent] for span in spans if span.name == "session.run") == ["routed v1", "routed v3"]


def test_steps_of_a_graph_are_its_children(server: RunningServer, receiver: OtlpReceiver) -> None:
    trace = secrets.token_hex(16)
    assert call(server, "/dev/models/chain/inference", trace) == 200
    spans = receiver.trace(trace, 6)
    steps = [span for span in spans if span.name == "plain v1"]
    assert [span.parent for span in steps] == [named(spans, "chain router").id] * 2
    assert steps[0].end_ns <= steps[1].start_ns


def test_an_asynchronous_request_is_part_of_the_trace_of_its_caller(
    server: RunningServer, receiver: OtlpReceiver
) -> None:
    trace = secrets.token_hex(16)
    assert call(server, "/dev/models/plain/inference", trace, prefer="respond-async") == 202
    spans = receiver.trace(trace, 3)
    route = "POST /models/plain/inference"
    assert tree_of(spans) == {route: "caller", "plain v1": "caller", "session.run": "plain v1"}
    assert named(spans, route).attributes["http.response.status_code"] == 202


def test_requests_that_callers_do_not_sample_are_not_sent(server: RunningServer, receiver: OtlpReceiver) -> None:
    skipped, after = secrets.token_hex(16), secrets.token_hex(16)
    assert call(server, "/dev/models/plain/inference", skipped, "00") == 200
    assert call(server, "/dev/models/plain/inference", after) == 200
    receiver.trace(after, 3)
    assert not [span for span in receiver.spans if span.trace == skipped]


def test_rejected_requests_have_a_span_and_invalid_parents_are_ignored(
    server: RunningServer, receiver: OtlpReceiver
) -> None:
    before = len(receiver.spans)
    for parent in ("00-0-0-01", f"00-{'0' * 32}-{CALLER}-01", f"ff-{'1' * 32}-{CALLER}-01"):
        assert server.request("GET", "/dev/nothing", None, {"traceparent": parent}).status == 403
    wait_until(lambda: len(receiver.spans) >= before + 3, "the spans of three refusals")
    spans = [span for span in receiver.spans[before:] if span.attributes.get("url.path") == "/dev/nothing"]
    shown = {(span.name, span.parent, span.attributes["http.response.status_code"]) for span in spans}
    assert shown == {("GET", "", 403)}
    assert len({span.trace for span in spans}) == 3


def test_the_x_ray_trace_is_unchanged(server: RunningServer) -> None:
    sent = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    answer = server.post("/dev/models/plain/inference", BODY, x_amzn_trace_id=sent)
    assert answer.headers["x-amzn-trace-id"] == sent
    assert "traceparent" not in answer.headers
    assert b"turnout" not in answer.body


def test_an_unreachable_collector_causes_one_warning_and_no_failed_request(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        receiver.status = 400
        project = write_project(tmp_path)
        arguments = ("--no-access-log", "--workers", "2", "--otlp-endpoint", f"{receiver.url}/v1/traces")
        with running_server(project, *arguments) as server:
            for _ in range(5):
                assert server.post("/dev/models/plain/inference", BODY).status == 200
                wait_until(lambda: b"spans cannot be exported" in server.stderr.read_bytes(), "the warning")

            def dropped() -> float:
                text = server.request("GET", "/metrics").body.decode()
                (line,) = (
                    text_line for text_line in text.splitlines() if text_line.startswith("turnout_dropped_spans_total ")
                )
                return float(line.split()[1])

            wait_until(lambda: dropped() == 15, "15 dropped spans")
            assert server.stderr.read_text().count("spans cannot be exported") == 1
            receiver.status = 200
            assert server.post("/dev/models/plain/inference", BODY).status == 200
            wait_until(lambda: "again" in server.stderr.read_text(), "the end of it")
            assert server.post("/dev/models/plain/inference", BODY).status == 200
            assert server.stop() == 0
        assert set(receiver.paths) == {"/v1/traces"}
        assert len(receiver.spans) == 6, "what waited was sent before the end"


def test_a_hanging_collector_does_not_block_the_stop(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        receiver.release.clear()
        project = write_project(tmp_path)
        with running_server(project, "--workers", "1", "--otlp-endpoint", receiver.url) as server:
            assert server.post("/dev/models/plain/inference", BODY).status == 200
            assert server.stop() == 0
        assert receiver.spans == []


def test_missing_packages_are_reported_with_the_remedy(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    code = (
        "import sys; sys.modules['opentelemetry'] = None; from turnout.cli.__main__ import run_and_exit; run_and_exit()"
    )
    command = serve_command(
        project / "models.yaml", "--otlp-endpoint", "http://127.0.0.1:1", command=(sys.executable, "-c", code)
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--otlp-endpoint needs opentelemetry-exporter-otlp-proto-http, which is not installed" in done.stderr
    assert "turnout[otlp]" in done.stderr
