"""Kept requests of a real server: listing, sending again, comparing two versions, saving examples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.builders.echo_project import EXAMPLES, write_echo_project
from tests.builders.running_server import running_server
from tests.builders.waiting import wait_until
from tests.console.test_console import Browser
from turnout.artifacts.examples import read_examples
from turnout.console.kept_requests import Filter, KeptRequest, describe_kept, read_capture
from turnout.protocol.codecs.samples import Sample, write_line

MANIFEST = """\
platform: turnout
models:
  echo: # answers what it is sent
    versions:
      v1: {artifact: models/echo.onnx, examples: models/echo.json} # the plain one
      v2: {artifact: models/scaled.onnx}
stages:
  dev:
    serve: {echo: v1}
    canary: {percent: 50, serve: {echo: v2}, agreement: {floor: 0.5, percent: 100, rules: {y: {absolute: 3.5}}}}
"""

SAMPLE = Sample(1.0, "dev", "echo", "v1", False, "application/json", None, b'{"a":1}', 200, 1.5, "/r")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    project = write_echo_project(tmp_path_factory.mktemp("kept"), MANIFEST)
    capture = project / "capture.jsonl"
    with running_server(project, "--workers", "2", "--no-access-log", "--capture", str(capture)) as server:
        browser = Browser(server)
        for number in range(6):
            server.post("/dev/models/echo/v1/inference", {"inputs": {"x": [[number, 0, 0, 0]]}, "id": "alice"})
        server.post("/dev/models/echo/v1/inference", {"inputs": {"x": [[1, 2]]}})
        for _ in range(20):
            server.post("/dev/models/echo/inference", {"instances": [[9.0, 0, 0, 0]]})
        wait_until(lambda: len(capture.read_bytes().splitlines()) == 27, "the captured lines")
        yield browser


def ask(browser: Browser, path: str, **query: Any) -> Any:
    answer = browser.request("GET", f"/{path}?{urlencode(query)}")
    if path == "compare" and answer.status == 200:
        return [json.loads(line) for line in answer.body.splitlines()]
    return answer.json() if answer.status == 200 else (answer.status, answer.json()["error"])


def rows_of(browser: Browser, **query: Any) -> list[Mapping[str, Any]]:
    result: list[Mapping[str, Any]] = ask(browser, "requests", **query)["rows"]
    return result


def test_the_latest_requests_come_first_and_sampled_ones_are_not_repeated(browser: Browser) -> None:
    response = ask(browser, "requests")
    sources = {"capture": "capture.jsonl", "is_readable": True, "sampled": ["dev"], "logs": ""}
    assert response["sources"] == sources
    times = [entry["time"] for entry in response["rows"]]
    assert times == sorted(times, reverse=True)
    assert response["kept"] == len(times) == 27
    browser.server.request("GET", "/turnout/samples?stage=dev&limit=5&keep=true")
    taken = browser.server.request("GET", "/turnout/samples?stage=dev&limit=100").json()["samples"]
    assert len(taken) == 20, "the console leaves samples to the canary's run"
    assert ask(browser, "requests")["kept"] == 27


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"status": "refused"}, 1),
        ({"status": "422"}, 0),
        ({"status": "answered", "share": "baseline", "version": "v2"}, 0),
        ({"model": "echo", "stage": "dev"}, 27),
        ({"model": "other"}, 0),
        ({"stage": "prod"}, 0),
        ({"slower_ms": "0.0001"}, 27),
        ({"slower_ms": "100000"}, 0),
    ],
)
def test_filters(browser: Browser, query: dict[str, str], count: int) -> None:
    assert len(rows_of(browser, **query)) == count


def test_requests_of_a_consumer_are_selected_and_named() -> None:
    kept = [KeptRequest(name, "capture", replace(SAMPLE, caller=name)) for name in ("shop", "")]
    assert [each.key for each in kept if Filter(caller="shop").wants(each.sample)] == ["shop"]
    assert [each.key for each in kept if Filter().wants(each.sample)] == ["shop", ""]
    assert [describe_kept(each)["caller"] for each in kept] == ["shop", ""]


def test_requests_of_both_shares_are_distinguished(browser: Browser) -> None:
    canary, baseline = rows_of(browser, share="canary"), rows_of(browser, share="baseline")
    assert len(canary) + len(baseline) == 27
    assert {entry["version"] for entry in canary} <= {"v1", "v2"}


def test_a_request_is_sent_again_to_any_version_and_not_counted(browser: Browser) -> None:
    entry = rows_of(browser, status="answered")[-1]
    shown = ask(browser, "request", key=entry["key"])
    assert json.loads(shown["body"]) == {"inputs": {"x": [[0, 0, 0, 0]]}, "id": "alice"}
    entry = rows_of(browser, status="answered")[-3]
    for version, first in (("v1", 2.0), ("v2", 4.0)):
        answer = ask(browser, "resend", key=entry["key"], stage="dev", version=version)
        assert (answer["status"], answer["version"]) == (200, version)
        assert answer["outputs"][0]["data"] == [first, 0.0, 0.0, 0.0]
    refused = rows_of(browser, status="refused")[0]
    assert ask(browser, "resend", key=refused["key"], stage="dev", version="v2")["status"] == 400
    assert ask(browser, "requests")["kept"] == 27, "what is sent again is not captured"
    assert ask(browser, "resend", key="0" * 16)[0] == 404
    assert ask(browser, "resend", key=entry["key"], stage="nothing")[0] == 404
    assert ask(browser, "resend", key=entry["key"], version="v9") == (404, "echo has no version 'v9'.")


def test_two_versions_are_compared_with_both_answers(browser: Browser) -> None:
    query = {"stage": "dev", "model": "echo", "canary": "v2", "baseline": "v1", "of_status": "answered"}
    *progress, report = ask(browser, "compare", **query)
    assert progress == [{"done": number, "of": 26} for number in range(1, 27)]
    # The canary's rule allows 2 x to differ by 3.5, so 0-3 agree; 4, 5 and the twenty requests of 9 do not.
    assert (report["compared"], report["agreed"]) == (26, 4)
    assert [request["agrees"] for request in report["requests"]] == [True] * 4 + [False] * 22
    pair = report["shown"][0]
    assert pair["versions"] == ["v1", "v2"]
    (output,) = pair["outputs"]
    assert (output["name"], output["measure"], output["differing"], output["size"]) == ("y", "absolute", 1, 4)
    assert output["rows"][0] == {"at": [0, 0], "values": [4.0, 8.0], "differs": True}
    assert not any(entry["differs"] for entry in output["rows"][1:])
    assert report["html"].startswith("<!doctype html>")
    assert "--against echo/v2 --against echo/v1 --stage dev" in report["command"]
    assert ask(browser, "compare", stage="dev", model="echo", canary="v2", baseline="v2")[0] == 400
    assert ask(browser, "compare", stage="dev", model="echo", canary="")[0] == 400
    assert ask(browser, "compare", stage="dev", model="echo", canary="v9")[0] == 404


def save(browser: Browser, **wish: Any) -> tuple[int, str]:
    answer = browser.request("POST", "/example", wish)
    body = answer.json()
    return answer.status, body.get("sentence") or body["error"]


def test_a_request_is_saved_as_an_additional_example(browser: Browser) -> None:
    key = rows_of(browser, status="answered")[-2]["key"]
    assert save(browser, key=key, model="echo", version="v1", name="a one") == (
        200,
        "Added example a one of echo v1 to models/echo.json.",
    )
    project = browser.server.project
    path = project / "models" / "echo.json"
    assert path.read_text().startswith(EXAMPLES[: EXAMPLES.rindex("}") + 1])
    assert "alice" not in path.read_text()
    assert [example.name for example in read_examples(path)] == ["first", "a one"]
    assert (project / "models.yaml").read_text() == MANIFEST
    before = path.read_bytes()
    status, error = save(browser, key=key, model="echo", version="v1", name="a one")
    assert (status, "two examples are called" in error) == (422, True)
    refused = rows_of(browser, status="refused")[0]["key"]
    for wish, expected in (
        ({"key": refused, "version": "v1"}, 422),
        ({"key": key, "version": "v9"}, 422),
        ({"key": "0" * 16, "version": "v1"}, 404),
        ({"key": key, "version": ""}, 400),
        ({"key": key, "version": "v1", "model": "other"}, 422),
    ):
        assert save(browser, **{"model": "echo", "name": "b", **wish})[0] == expected, wish
    assert path.read_bytes() == before


def test_a_version_without_examples_gets_a_file_named_in_models_yaml(browser: Browser) -> None:
    key = rows_of(browser, status="answered", share="baseline")[0]["key"]
    status, sentence = save(browser, key=key, model="echo", version="v2", name="nine")
    assert (status, sentence) == (200, "Added example nine of echo v2 to models/echo-v2-examples.json.")
    project = browser.server.project
    text = (project / "models.yaml").read_text()
    assert "v2: {artifact: models/scaled.onnx, examples: models/echo-v2-examples.json}" in text
    assert "# the plain one" in text
    (example,) = read_examples(project / "models" / "echo-v2-examples.json")
    assert example.outputs[0].data == (18.0, 0.0, 0.0, 0.0)
    assert browser.state()["problems"] == []


def test_damaged_lines_and_pipes_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "capture.jsonl"
    sample = SAMPLE
    path.write_bytes(b"\n".join([b"half of a li", write_line(sample), b'{"other": 1}', write_line(sample)[:20]]))
    assert [entry.sample for entry in read_capture(path)] == [sample]
    assert list(read_capture(tmp_path / "nothing")) == []
    os.mkfifo(tmp_path / "pipe")
    assert list(read_capture(tmp_path / "pipe")) == []
    assert Filter(status="200").wants(sample)
    assert not Filter(status="failed").wants(sample)
