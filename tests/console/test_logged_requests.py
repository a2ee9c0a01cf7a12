"""The console's requests of a stack: lines of the functions' logs, backed by moto, sent again to a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.builders.echo_project import write_echo_project
from tests.builders.logs import line_of, log_lines, logs_client
from tests.builders.running_server import RunningServer, running_server
from tests.builders.stage import FakeFunctions, FakeStage, FakeTraffic
from turnout.artifacts.examples import read_examples
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_control import StageControlError, StageTarget
from turnout.client.captured_lines import Sample
from turnout.console.door import Door
from turnout.console.kept_answers import KeptAnswers
from turnout.console.subject import CannotSendError, Subject
from turnout.gateway.editions.signing_keys import load_signing_key
from turnout.plan.stages import plan_stage

MANIFEST = """\
platform: shop
models:
  echo:
    versions:
      v1: {artifact: models/echo.onnx, examples: models/echo.json, capture: {percent: 5, redact: [x]}}
      v2: {artifact: models/scaled.onnx, capture: {percent: 5}}
  idle:
    versions:
      v1: {artifact: models/echo.onnx}
      v2: {artifact: models/echo.onnx}
stages:
  prod:
    serve: {echo: v1, idle: v1}
    canary: {percent: 50, serve: {echo: v2}, agreement: {floor: 0.5, percent: 100, rules: {y: {absolute: 3.5}}}}
  keyed: {serve: {echo: v1, idle: v1}, auth: api_key}
  signed: {serve: {echo: v1, idle: v1}, auth: iam}
"""
TOKENS = """\
  users: {serve: {echo: v1, idle: v1}, auth: jwt, jwt: {issuer: "https://login.example.com", audience: [app]}}
"""
"""A stage that exists in the stack but not on the server on this machine, which would fetch the issuer's keys."""

NOW_S = float(round(time.time()))
ROUTE = "/models/echo/inference"


def sample(number: int, version: str = "v1", **changes: Any) -> Sample:
    body = b'{"inputs": {"x": [[%d, 0, 0, 0]]}}' % number
    fields = (NOW_S - 60 + number, "prod", "echo", version, version == "v2", "application/json", None, body)
    return replace(Sample(*fields, 200, 2.5, ROUTE), **changes)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_echo_project(tmp_path_factory.mktemp("logged"), MANIFEST)
    with running_server(project, "--workers", "1", "--no-access-log", "--no-console") as server:
        (project / "models.yaml").write_text(MANIFEST + TOKENS)
        yield server


@pytest.fixture
def logs() -> Iterator[Any]:
    with logs_client() as client:
        yield client


@dataclass(frozen=True)
class Stack:
    """A stack whose stages are answered by a server on this machine."""

    server: RunningServer
    logs: Any
    url: str = ""

    def subject(self, **fields: Any) -> Subject:
        def connect(project: Any, _target: StageTarget, name: str, _judgement: Any) -> StageConnection:
            stage = next(stage for stage in project.manifest.stages if stage.name == name)
            url = self.url or f"http://127.0.0.1:{self.server.port}"
            control = FakeStage(plan_stage(stage, project.manifest.models), url=url)
            return StageConnection(control, FakeFunctions(), FakeTraffic())

        path = self.server.project / "models.yaml"
        return Subject(path, StageTarget("live"), make_client=lambda *_: self.logs, connect=connect, **fields)

    def answers(self, **fields: Any) -> KeptAnswers:
        return KeptAnswers(self.subject(**fields), Door())


@pytest.fixture
def stack(server: RunningServer, logs: Any) -> Stack:
    return Stack(server, logs)


def keys_of(answers: KeptAnswers, **query: str) -> list[str]:
    return [entry["key"] for entry in answers.reading["/requests"](query)["rows"]]


def test_requests_are_listed_filtered_and_shown(stack: Stack) -> None:
    log_lines(stack.logs, "shop-live_echo_v1", [line_of(sample(number)) for number in range(3)])
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(3, "v2")), line_of(sample(4, "v2", status=400))])
    answers = stack.answers()
    listed = answers.reading["/requests"]({})
    assert [(entry["version"], entry["source"], entry["share"]) for entry in listed["rows"]] == [
        *[("v2", "log", "canary")] * 2,
        *[("v1", "log", "baseline")] * 3,
    ]
    assert listed["kept"] == 5
    assert listed["sources"]["logs"].startswith("The latest requests in the logs of 2 of 2 functions, up to 24 hours")
    counts = {
        ("status", "refused"): 1,
        ("share", "baseline"): 3,
        ("version", "v2"): 2,
        ("stage", "keyed"): 0,
        ("model", "idle"): 0,
    }
    assert {(name, value): len(keys_of(answers, **{name: value})) for name, value in counts} == counts
    shown = answers.reading["/request"]({"key": keys_of(answers, version="v1")[0]})
    assert (shown["body"], shown["redacted"]) == ('{"inputs":{"x":[[2,0,0,0]]}}', ["x"])


def test_missing_logging_and_missing_deployment_are_reported_with_the_remedy(stack: Stack) -> None:
    answers = stack.answers()
    idle = answers.reading["/requests"]({"model": "idle"})["sources"]["logs"]
    assert idle.startswith("No function of idle logs requests. Set `capture: {percent: 5}`")
    absent = answers.reading["/requests"]({"model": "echo"})["sources"]["logs"]
    assert "No log group was found for shop-live_echo_v1 and 1 more: run `pulumi up`" in absent


def test_a_request_is_sent_again_and_saved_as_an_example(stack: Stack) -> None:
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(7, "v2"))])
    answers = stack.answers()
    (key,) = keys_of(answers)
    for version, first in (("v1", 7.0), ("v2", 14.0)):
        answer = answers.reading["/resend"]({"key": key, "version": version})
        assert (answer["status"], answer["version"], answer["outputs"][0]["data"][0]) == (200, version, first)
    path = stack.server.project / "models" / "echo.json"
    before = path.read_bytes()
    saved = answers.save({"key": key, "model": "echo", "version": "v1", "name": "from the log"})
    assert saved["sentence"] == "Added example from the log of echo v1 to models/echo.json."
    assert [example.name for example in read_examples(path)] == ["first", "from the log"]
    path.write_bytes(before)


def test_two_versions_are_compared(stack: Stack) -> None:
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(number, "v2")) for number in range(6)])
    query = {"stage": "prod", "model": "echo", "canary": "v2", "baseline": "v1", "of_stage": "prod", "limit": "5"}
    *_, report = stack.answers().compare(query)
    # 2 x may differ by 3.5: of 1 to 5, two disagree.
    assert (report["compared"], report["agreed"], report["problem"]) == (5, 3, "")
    assert report["shown"][0]["outputs"][0]["rows"][0]["values"] == [4.0, 8.0]
    assert report["capture"]["file"] == "logs of stack live, the latest 5 requests"
    assert "in the logs of 2 of 2 functions" not in report["notes"]
    assert "No log group was found for shop-live_echo_v1" in report["notes"]


def test_redacted_requests_are_not_compared(stack: Stack) -> None:
    log_lines(stack.logs, "shop-live_echo_v1", [line_of(sample(1)), line_of(sample(2))])
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(3, "v2"))])
    *_, report = stack.answers().compare({"stage": "prod", "model": "echo", "canary": "v2", "baseline": "v1"})
    assert report["compared"] == 1
    assert report["notes"].endswith("2 requests were kept redacted (`capture.redact`) and not sent again.")


@pytest.mark.parametrize(
    ("stage", "words", "remedy"),
    [
        ("keyed", "requires an API key", "`--api-key KEY`, or set TURNOUT_API_KEY"),
        ("users", "requires a token", "`--token TOKEN`, or set TURNOUT_TOKEN"),
    ],
)
def test_nothing_is_sent_without_the_required_credentials(stack: Stack, stage: str, words: str, remedy: str) -> None:
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(1, "v2", stage=stage))])
    answers = replace(stack, url="http://127.0.0.1:1").answers()
    (key,) = keys_of(answers, stage=stage)
    query = {"stage": stage, "model": "echo", "canary": "v2", "baseline": "v1"}
    example = {"key": key, "model": "echo", "version": "v1", "name": "one"}
    for ask in (
        lambda: answers.reading["/resend"]({"key": key}),
        lambda: list(answers.compare(query)),
        lambda: answers.save(example),
    ):
        with pytest.raises(CannotSendError, match=words) as raised:
            ask()
        assert remedy in raised.value.hint


def test_key_and_token_are_sent_where_they_are_required(stack: Stack) -> None:
    subject = stack.subject(api_key="secret", token="t0ken")
    names = {"keyed": {"x-api-key": "secret"}, "users": {"authorization": "Bearer t0ken"}, "prod": {}}
    for name, sent in names.items():
        headers = subject.sending(name).headers
        assert {key: value for key, value in headers.items() if key != "x-turnout-replay"} == sent
    assert "secret" not in repr(subject)


def test_a_wrong_key_is_shown_with_the_remedy(stack: Stack) -> None:
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(1, "v2"))])
    query = {"stage": "keyed", "model": "echo", "canary": "v2", "baseline": "v1"}
    *_, report = stack.answers(api_key="wrong").compare(query)
    assert (report["compared"], report["undecided"]) == (0, 1)
    assert report["problem"].startswith("HTTP 403: ")
    assert "pass --api-key" in report["problem"]


def test_signed_requests_are_answered(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    access, secret = load_signing_key(stack.server.project / ".turnout")
    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(3, "v2", stage="signed"))])
    answers = stack.answers()
    (key,) = keys_of(answers)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    assert answers.reading["/resend"]({"key": key, "version": "v1"})["outputs"][0]["data"][0] == 3.0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert answers.reading["/resend"]({"key": key, "version": "v1"})["status"] == 403


def test_a_place_that_cannot_be_found_is_an_error(stack: Stack) -> None:
    def refuse(*_: Any) -> StageConnection:
        raise StageControlError("stack live has no REST API called shop-live_prod")

    log_lines(stack.logs, "shop-live_echo_v2", [line_of(sample(3, "v2"))])
    answers = KeptAnswers(replace(stack.subject(), connect=refuse), Door())
    (key,) = keys_of(answers)
    with pytest.raises(StageControlError, match="no REST API"):
        answers.reading["/resend"]({"key": key})
