"""`turnout invoke` with a running server, and without one."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.running_server import RunningServer, running_server
from tests.cli.conftest import write_project
from turnout.cli.__main__ import main

TABLE = "OUTPUT  DATATYPE  SHAPE  VALUES\ny       FP32      [1,4]  "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(write_project(tmp_path_factory.mktemp("invoke") / "project")) as running:
        yield running


@pytest.fixture
def base(server: RunningServer) -> list[str]:
    return ["--url", f"http://127.0.0.1:{server.port}", "--manifest", str(server.project)]


def test_without_data_the_first_example_is_sent_and_compared(
    base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", "echo", "v1", *base]) == 0
    out, err = capsys.readouterr()
    assert re.match(r"echo v1 answered in [0-9.]+ ms \(HTTP 200, digest [0-9a-f]{12}, canary false\)\n\n", out)
    assert out.endswith(f"{TABLE}1, 1, 1, 1\n\nThe response matches example 'ones' of echo v1.\n")
    assert err == ""


def test_an_example_is_chosen_by_its_name(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invoke", "echo", "v1", "--example", "short", *base]) == 0
    out = capsys.readouterr().out
    assert "1, 2, 3, 4" in out
    assert "The response matches example 'short'" in out


def test_a_version_without_examples_gets_a_request_from_its_signature(
    base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", "echo", *base]) == 0  # dev serves the newest version
    out = capsys.readouterr().out
    assert f"{TABLE}0.5, 0.5, 0.5, 0.5\n" in out
    assert out.endswith("generated from the signature of echo v2: its values are arbitrary.\n")


def test_the_local_key_of_a_stage_is_found(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invoke", "echo", "--stage", "prod", *base]) == 0
    assert capsys.readouterr().out.startswith("echo v")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_wrong_key_exits_with_1_and_the_remedy(
    by: str, base: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("TURNOUT_API_KEY", "wrong")
    given = ["--api-key", "wrong"] if by == "option" else []
    assert main(["invoke", "echo", "--stage", "prod", *given, *base]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("turnout: HTTP 403 ForbiddenException: Forbidden\n")
    assert "--api-key" in err


@pytest.mark.parametrize("form", ["text", "file", "stdin"])
def test_data_is_sent_unchanged(
    form: str, base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = '{"inputs": {"x": [[7, 8, 9, 10]]}}'
    (tmp_path / "body.json").write_text(body)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body.encode())))
    data = {"text": body, "file": f"@{tmp_path}/body.json", "stdin": "-"}[form]
    assert main(["invoke", "echo", "v1", "-d", data, *base]) == 0
    out = capsys.readouterr().out
    assert "7, 8, 9, 10" in out
    assert "expected" not in out


def test_data_needs_no_manifest(base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["invoke", "echo", "v1", "-d", '{"instances": [[1, 2, 3, 4]]}', *base[:2]]) == 0


def test_json_prints_the_body_unchanged(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invoke", "echo", "v1", "--json", *base]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["outputs"][0]["data"] == [1, 1, 1, 1]
    assert err == ""


def test_an_error_response_exits_with_1(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invoke", "echo", "v1", "-d", "{", *base]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("turnout: HTTP 400 INVALID_JSON: ")


def test_an_error_response_as_json_prints_the_body_and_exits_with_1(
    base: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", "echo", "v1", "-d", "{", "--json", *base]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["code"] == "INVALID_JSON"
    assert "INVALID_JSON" in err


def test_an_unexpected_answer_exits_with_1_and_reports_the_difference(
    base: list[str], server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_project(tmp_path / "other")
    examples = folder / "models" / "echo" / "v1" / "examples.json"
    examples.write_text(examples.read_text().replace("[1.0, 1.0, 1.0, 1.0]", "[1.0, 5.0, 1.0, 1.0]"))
    assert main(["invoke", "echo", "v1", *base[:2], "--manifest", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "1, 1, 1, 1" in out
    assert err == (
        "turnout: the response differs from what example 'ones' of echo v1 expects:\n"
        "    output `y`: value 1: expected 5.0, got 1.0\n"
    )


def test_the_answer_of_another_version_is_not_compared(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_project(tmp_path / "other")
    manifest = folder / "models.yaml"
    text = manifest.read_text().replace('  dev:\n    serve: {"*": newest}\n', "  dev:\n    serve: {echo: v1}\n")
    manifest.write_text(text)
    assert main(["invoke", "echo", *base[:2], "--manifest", str(folder)]) == 0
    assert capsys.readouterr().err == "Not compared: the request is an example of echo v1, but v2 answered.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ecoh"], "unknown model 'ecoh'.\n    Did you mean 'echo'?"),
        (["echo", "newest"], "unknown version of echo 'newest'.\n    Known versions: v1, v2."),
        (["echo", "v1", "--stage", "x"], "unknown stage 'x'.\n    Known stages: dev, prod."),
        (["echo", "v1", "--example", "x"], "unknown example of echo v1 'x'.\n    Known examples: ones, short."),
        (["echo", "v2", "--example", "x"], "unknown example of echo v2 'x'.\n    There is no example of echo v2."),
        (["echo", "v1", "--example", "ones", "-d", "{}"], "--data and --example cannot be combined"),
        (["echo", "v1", "-d", "@nope.json"], "cannot read nope.json: No such file or directory."),
        (["echo", "v1", "--url", "localhost:8080"], "localhost:8080 is not an address"),
    ],
)
def test_bad_input_exits_with_2(
    arguments: list[str], sentence: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", *arguments, "--manifest", str(project)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err


def test_no_server_exits_with_1_and_the_remedy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # the port is taken, and nothing listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert main(["invoke", "echo", "v1", "--url", url, "--manifest", str(project)]) == 1
    assert capsys.readouterr().err == (
        f"turnout: no server listens at {url}.\n    Start one with `turnout serve`, or pass its address with --url.\n"
    )


def test_a_version_stored_elsewhere_needs_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "models.yaml"
    remote = f"v2: {{artifact: 's3://bucket/model.onnx', sha256: {'ab' * 32}}}"
    path.write_text(path.read_text().replace("v2: {artifact: models/echo/v2/model.onnx}", remote))
    assert main(["invoke", "echo", "v2", "--manifest", str(project)]) == 2
    assert "its artifact is not on this machine" in capsys.readouterr().err
