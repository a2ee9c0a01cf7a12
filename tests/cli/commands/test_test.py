"""`turnout test`: in process, isolated, and against a running server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph
from tests.builders.running_server import RunningServer, running_server
from tests.cli.conftest import EXAMPLES, write_project
from turnout.cli.__main__ import main

WRONG = {"outputs": [{"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [9.0, 1.0, 9.0, 9.0]}]}
ODD = {"name": "odd \x1b[31m<&>", "request": {"instances": [[1, 1, 1, 1]]}, "response": WRONG}


def write_examples(project: Path, *examples: Any, version: str = "v1") -> None:
    (project / "models" / "echo" / version / "examples.json").write_text(json.dumps(examples))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = write_project(tmp_path_factory.mktemp("test") / "project")
    with running_server(folder, "--capture", str(folder / "capture.jsonl")) as running:
        yield running


def test_all_examples_pass_in_this_process(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "-m", str(project)]) == 0
    out, err = capsys.readouterr()
    lines = [line.split()[:4] for line in out.splitlines()]
    assert lines[0] == ["MODEL", "VERSION", "EXAMPLE", "RESULT"]
    assert lines[1:4] == [
        ["echo", "v1", "ones", "passed"],
        ["echo", "v1", "short", "passed"],
        ["echo", "v2", "-", "skipped"],
    ]
    assert out.endswith("\n2 of 2 examples passed, 1 version skipped: no examples.\n")
    assert err == ""


def test_a_different_answer_exits_with_1_and_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(project, *EXAMPLES, ODD)
    assert main(["test", "echo/v1", "-m", str(project)]) == 1
    out = capsys.readouterr().out
    assert "2 of 3 examples passed" in out
    assert "echo/v1 odd \\x1b[31m<&>: failed\n  output `y`: value 0: expected 9.0, got 1.0\n" in out
    assert "\x1b" not in out


def test_json_contains_every_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(project, *EXAMPLES, ODD)
    assert main(["test", "--json", "-m", str(project)]) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["counts"] == {"passed": 2, "failed": 1, "error": 0, "skipped": 1}
    runs = [
        (example["version"], example["example"], example["outcome"], len(example["reasons"]))
        for example in body["examples"]
    ]
    assert runs == [
        ("v1", "ones", "passed", 0),
        ("v1", "short", "passed", 0),
        ("v1", ODD["name"], "failed", 3),
        ("v2", "", "skipped", 1),
    ]


def test_junit_contains_every_run(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(project, *EXAMPLES, ODD)
    path = tmp_path / "junit.xml"
    assert main(["test", "--junit", str(path), "-m", str(project)]) == 1
    root = ElementTree.fromstring(path.read_bytes())
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    assert [suite.get("name") for suite in root] == ["echo/v1", "echo/v2"]
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {"ones": [], "short": [], "odd \ufffd[31m<&>": ["failure"], "examples": ["skipped"]}
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "output `y`: value 0: expected 9.0, got 1.0"
    assert (failure.text or "").count("\n") == 2
    assert "passed" in capsys.readouterr().out


def test_an_unwritable_junit_file_does_not_suppress_the_table(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--junit", str(tmp_path), "-m", str(project)]) == 2
    out, err = capsys.readouterr()
    assert "2 of 2 examples passed" in out
    assert f"cannot write {tmp_path}: Is a directory." in err


def test_a_failing_or_rejecting_version_exits_with_1(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = [value("x", "FP32", ["batch", 4])], [value("y", "FP32", ["batch", 4])]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    shape = helper.make_tensor("shape", 7, [2], [3, 7])  # no request has 21 values
    write_graph(project / "models" / "echo" / "v1" / "model.onnx", nodes, *entry, [shape])
    text = (project / "models.yaml").read_text().replace("models/echo/v2/model.onnx", "models/echo/v1/model.onnx")
    (project / "models.yaml").write_text(text)
    assert main(["test", "echo/v1", "-m", str(project)]) == 1
    assert "failed\n  HTTP " in capsys.readouterr().out


def test_opening_a_version_does_not_count_against_its_timeout(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transform = project / "models" / "echo" / "v1" / "transform.py"
    transform.write_text("import time\ntime.sleep(1.2)\ndef preprocess(inputs):\n    return inputs\n")
    manifest = project / "models.yaml"
    fields = "v1: {timeout_s: 1, transform: models/echo/v1/transform.py, "
    manifest.write_text(manifest.read_text().replace("v1: {", fields))
    assert main(["test", "echo/v1", "-m", str(project)]) == 0
    assert "2 of 2 examples passed" in capsys.readouterr().out


def test_a_version_without_an_answer_in_time_is_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transform = project / "models" / "echo" / "v1" / "transform.py"
    transform.write_text("import time\ndef preprocess(inputs):\n    time.sleep(3)\n    return inputs\n")
    manifest = project / "models.yaml"
    fields = "v1: {timeout_s: 1, transform: models/echo/v1/transform.py, "
    manifest.write_text(manifest.read_text().replace("v1: {", fields))
    write_examples(project, EXAMPLES[0])
    assert main(["test", "echo/v1", "-m", str(project)]) == 1
    assert "echo/v1 ones: error\n  timed_out: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ecko"], "unknown model 'ecko'.\n    Did you mean 'echo'?"),
        (["echo/v9"], "unknown version of echo 'v9'."),
        (["echo/"], "unknown version of echo ''."),
        (["echo/v2"], "echo/v2 has nothing to test: no examples."),
        (["--stage", "prod"], "--stage needs --url"),
        (["--isolated", "--url", "http://127.0.0.1:1"], "cannot be combined"),
        (["--url", "nonsense"], "--url: nonsense is not an address"),
        (["--junit", "/nowhere/junit.xml"], "cannot write /nowhere/junit.xml: No such file"),
    ],
)
def test_impossible_tests_exit_with_2(
    arguments: list[str], sentence: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", *arguments, "-m", str(project)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_project_without_examples_exits_with_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace(", examples: models/echo/v1/examples.json", ""))
    assert main(["test", "-m", str(project)]) == 2
    assert "models.yaml has nothing to test: no examples." in capsys.readouterr().err


def test_examples_sent_to_a_server_are_neither_counted_nor_captured(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--url", f"http://127.0.0.1:{server.port}", "-m", str(server.project)]
    for stage in ([], ["--stage", "dev"], ["--stage", "prod"]):
        assert main(["test", "echo", *stage, *base]) == 0
        assert "2 of 2 examples passed" in capsys.readouterr().out
    server.await_log(lambda text: text.count("/models/echo/v1/inference 200") >= 6)
    for stage in ("dev", "prod"):
        assert server.request("GET", f"/turnout/metrics?stage={stage}").json()["functions"] == []
    assert (server.project / "capture.jsonl").read_bytes() == b""


def test_a_server_older_than_models_yaml_is_reported(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = write_project(tmp_path / "newer")
    write_examples(newer, ODD)
    manifest = newer / "models.yaml"
    manifest.write_text(manifest.read_text().replace("  echo:", "  newer:").replace("echo: v", "newer: v"))
    assert main(["test", "--url", f"http://127.0.0.1:{server.port}", "-m", str(newer)]) == 1
    assert "the server runs an older models.yaml" in capsys.readouterr().out


def test_a_wrong_answer_of_a_server_exits_with_1(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_project(tmp_path / "other")
    write_examples(other, ODD)
    write_graph(
        other / "models" / "echo" / "v1" / "model.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 4])],
    )
    assert main(["test", "--url", f"http://127.0.0.1:{server.port}", "-m", str(other)]) == 1
    out = capsys.readouterr().out
    assert "the server runs another artifact: its digest is " in out
    assert "value 0: expected 9.0, got 1.0" in out


def test_a_rejected_key_exits_with_1(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--url", f"http://127.0.0.1:{server.port}", "-m", str(server.project)]
    assert main(["test", "--stage", "prod", "--api-key", "wrong", *base]) == 1
    assert "HTTP 403: Forbidden" in capsys.readouterr().out


def test_no_server_exits_with_1_and_the_remedy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert main(["test", "--url", url, "-m", str(project)]) == 1
    assert capsys.readouterr().err == (
        f"turnout: no server listens at {url}.\n    Start a server with `turnout serve`, or correct --url.\n"
    )
