"""Requests that a function logs for replays."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from model_lambdas.function.captured_requests import LARGEST_LOG_LINE_BYTES, CaptureRule, capturing_requests
from model_lambdas.function.runtime import FunctionSpec
from tests.builders.model_functions import proxy_event
from turnout.client.captured_lines import Sample, parse_sample, read_lines
from turnout.protocol.requests.runs import AsyncRun, spell_run
from turnout.protocol.tensors.datatypes import Signature

SPEC = FunctionSpec("iris", "v1", "0" * 64, Signature((), ()), Path("model.onnx"))
BODY = b'{"inputs":{"x":[[1.5]]}}'
ROUTE = "/models/iris/inference"
ANSWER = {"statusCode": 200, "headers": {}, "body": "{}", "isBase64Encoded": False}


def api_event(body: bytes | str | None = BODY, **fields: Any) -> dict[str, Any]:
    context = {
        "resource": ROUTE,
        "requestContext": {"stage": "prod"},
        "stageVariables": {"canary": "true"},
    }
    return proxy_event(body, {"Content-Type": "application/json"}, **{**context, **fields})


def lines_of(
    event: dict[str, Any], *, drawn: float = 0.0, percent: float = 1.0, redact: tuple[str, ...] = (), status: int = 200
) -> list[str]:
    """Return what is written for one call."""
    lines: list[str] = []
    answer = {**ANSWER, "statusCode": status}
    ticks = iter([10.0, 10.0025])
    handler = capturing_requests(
        lambda event, context: answer,
        SPEC,
        CaptureRule(percent, redact),
        lines.append,
        random=lambda: drawn,
        clock=lambda: 1790000000.0,
        monotonic=lambda: next(ticks),
    )
    assert handler(event, None) is answer
    return lines


def test_a_request_is_one_line_that_replay_reads() -> None:
    (line,) = lines_of(api_event())
    (read,) = read_lines([line.encode()])
    sample = Sample(1790000000.0, "prod", "iris", "v1", True, "application/json", None, BODY, 200, 2.5, ROUTE)
    assert read.samples == (sample,)


def test_asynchronous_run_is_captured_separately_and_without_a_body_in_a_file(tmp_path: Path) -> None:
    (line,) = lines_of(api_event(turnout=spell_run(AsyncRun(), 0.5)))
    assert orjson.loads(line)["turnout_capture"]["asynchronous"] is True
    body_file = tmp_path / "body"
    body_file.write_bytes(BODY)
    (left_out,) = lines_of(api_event(None, turnout=spell_run(AsyncRun(str(body_file)), 0.5)))
    assert orjson.loads(left_out)["turnout_capture_left_out"]["bytes"] == len(BODY)


@pytest.mark.parametrize(
    ("resource", "lines"),
    [
        ("/models/iris/v1/inference", 0),
        ("/models/iris/inference", 1),  # a canary decides here, so no request may be hidden
        ("/v2/models/iris/infer", 1),
        ("/models/iris/v2/inference", 1),
    ],
)
@pytest.mark.parametrize("name", ["x-turnout-replay", "X-Turnout-Replay"])
def test_a_replay_is_captured_only_if_a_canary_decides(resource: str, lines: int, name: str) -> None:
    event = api_event(resource=resource)
    event["headers"] = {**event["headers"], name: "1"}
    assert len(lines_of(event, percent=100)) == lines


@pytest.mark.parametrize(("drawn", "lines"), [(0.0, 1), (0.0099, 1), (0.01, 0), (0.5, 0)])
def test_a_percentage_of_requests_is_captured(drawn: float, lines: int) -> None:
    assert len(lines_of(api_event(), drawn=drawn)) == lines


def test_nothing_is_captured_at_0_percent_and_all_at_100() -> None:
    assert lines_of(api_event(), drawn=0.0, percent=0) == []
    assert len(lines_of(api_event(), drawn=0.999999, percent=100)) == 1


def test_redacted_values_are_not_in_the_line() -> None:
    (line,) = lines_of(api_event(b'{"inputs": {"x": [[1.5]], "kept": [7]}}'), redact=("x",))
    assert orjson.loads(parse_sample(orjson.loads(line)).body) == {"inputs": {"x": [[0]], "kept": [7]}}


def test_a_rejected_request_is_captured_unless_values_must_be_redacted() -> None:
    assert len(lines_of(api_event(b"{secret"), status=400)) == 1
    assert lines_of(api_event(b"{secret"), status=400, redact=("x",)) == []


@pytest.mark.parametrize(
    "event",
    [
        {"ping": True},
        api_event(turnout={"hop": 1, "shadow": True}),
        {**api_event(), "requestContext": None},
    ],
)
def test_requests_that_no_caller_sent_are_not_captured(event: dict[str, Any]) -> None:
    assert lines_of(event) == []


@pytest.mark.parametrize("size", [LARGEST_LOG_LINE_BYTES, 2_000_000])
def test_a_line_that_cloudwatch_would_truncate_is_replaced_by_a_note(size: int) -> None:
    (line,) = lines_of(api_event(b'"' + b"a" * size + b'"'))
    fields = orjson.loads(line)["turnout_capture_left_out"]
    assert fields["bytes"] >= size
    assert (fields["model"], fields["version"]) == ("iris", "v1")
    assert next(iter(read_lines([line.encode()]))).samples == ()


@pytest.mark.parametrize("event", [api_event("no base64", isBase64Encoded=True), {**api_event(), "headers": [1]}])
def test_a_failed_capture_does_not_affect_the_answer(event: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(event) == []
    assert "could not be captured" in caplog.text


def test_an_exception_of_the_handler_reaches_lambda() -> None:
    def fail(event: Any, context: Any) -> dict[str, Any]:
        raise MemoryError

    lines: list[str] = []
    with pytest.raises(MemoryError):
        capturing_requests(fail, SPEC, CaptureRule(100, ()), lines.append)(api_event(), None)
    assert lines == []


def test_a_text_body_is_captured_too() -> None:
    event = api_event(BODY.decode())
    assert base64.b64decode(api_event()["body"]) == BODY
    assert lines_of(event) == lines_of(api_event())
