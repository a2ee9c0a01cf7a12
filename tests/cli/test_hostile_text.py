"""Hostile text from a model and a server, through every command: terminals must never receive it unescaped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph
from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.running_server import running_server
from tests.cli.conftest import MANIFEST, write_project
from turnout.cli.__main__ import main

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\u202eevil"
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def write_hostile_model(path: Path, operator: str = "Identity") -> None:
    nodes = [helper.make_node(operator, [f"in{EVIL}"], [f"out{EVIL}"], name=f"node{EVIL}")]
    shape = (f"batch{EVIL}", 4)
    write_graph(path, nodes, [value(f"in{EVIL}", "FP32", shape)], [value(f"out{EVIL}", "FP32", shape)])
    model = onnx.load(str(path))
    model.doc_string = model.producer_name = EVIL
    onnx.save(model, str(path))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = write_project(tmp_path / f"folder{EVIL}")
    (folder / "models.yaml").write_text(
        MANIFEST.replace(", examples: models/echo/v1/examples.json", "").replace("auth: api_key", "auth: none")
    )
    for version in ("v1", "v2"):
        write_hostile_model(folder / "models" / "echo" / version / "model.onnx")
    return folder


def check(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert not RAW.search(out + err), repr(out + err)
    return out + err


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate",),
        ("validate", "--json"),
        ("plan",),
        ("plan", "--json"),
        ("models",),
        ("models", "--json"),
        ("openapi",),
        ("test",),
        ("build", "--here"),
        ("canary", "status", "prod"),
        ("canary", "status", "prod", "--json"),
        ("canary", "set", "prod", "--percent", "20"),
        ("canary", "history"),
        ("remove", "echo", "v1"),
    ],
    ids=" ".join,
)
def test_a_hostile_model_and_folder(
    arguments: tuple[str, ...], hostile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnout.packaging.build.build_packages", lambda *_, **__: ()) if "build" in arguments else None
    assert main([*arguments, "-m", str(hostile)]) in {0, 2}
    out, err = capsys.readouterr()
    assert out + err
    assert not RAW.search(out + err), repr(out + err)
    if arguments == ("models",):
        assert "in in\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\x7f\\r\\u202eevil FP32" in out
    if "--json" in arguments and "models" in arguments:
        assert json.loads(out)["models"][0]["versions"][0]["inputs"][0]["name"] == f"in{EVIL}"


def test_a_model_that_onnxruntime_refuses(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hostile_model(hostile / "models" / "echo" / "v2" / "model.onnx", f"Operator{EVIL}")
    for command in ("validate", "plan", "models"):
        assert main([command, "-m", str(hostile)]) in {0, 2}
    out, err = capsys.readouterr()
    assert "Operator\\x1b]0;owned" in err
    assert not RAW.search(out + err), repr(out + err)


def test_hostile_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = write_project(tmp_path / "project")
    missing = tmp_path / f"missing{EVIL}"
    check(capsys, "init", str(tmp_path / f"new{EVIL}"), code=0)
    check(capsys, "init", str(tmp_path / f"new{EVIL}"), code=2)
    check(capsys, "add", "echo", "v3", str(missing), "-m", str(project), code=2)
    model = tmp_path / f"good{EVIL}.onnx"
    shutil.copy(project / "models" / "echo" / "v1" / "model.onnx", model)
    check(capsys, "add", "echo", "v3", str(model), "-m", str(project), code=0)
    check(capsys, "add", "echo", EVIL, str(model), "-m", str(project), code=2)
    check(capsys, "validate", "-m", str(missing), code=2)
    check(capsys, "replay", str(missing), "--against", "echo/v1", "-m", str(project), code=2)
    check(capsys, "invoke", "echo", "--data", f"@{missing}", "-m", str(project), code=2)
    check(capsys, "canary", "status", EVIL, "-m", str(project), code=2)


@pytest.mark.parametrize(
    "arguments", [(EVIL,), (f"--{EVIL}",), ("invoke", "a", "b", EVIL), ("serve", "--port", EVIL)], ids=ascii
)
def test_bad_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A shell's `*` may insert the name of any file."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not RAW.search(out + err), repr(out + err)


def test_a_traceback_of_debug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-m", str(tmp_path / EVIL), "--debug"]) == 1
    _, err = capsys.readouterr()
    assert "Traceback" in err
    assert not RAW.search(err), repr(err)


ANSWERS = {
    "outputs": {
        "model_name": EVIL,
        "outputs": [{"name": EVIL, "datatype": EVIL, "shape": [1], "data": [EVIL]}],
    },
    "predictions": {"predictions": [{EVIL: [1, EVIL]}]},
    "error": {"error": EVIL, "code": EVIL, "details": {EVIL: EVIL}, "message": EVIL},
    "list": [EVIL],
}


def bodies() -> Iterator[tuple[str, int, bytes]]:
    for name, answer in ANSWERS.items():
        for status in (200, 400, 403, 503):
            yield f"{name} {status}", status, json.dumps(answer).encode()
            yield f"{name} {status} raw", status, json.dumps(answer, ensure_ascii=False).encode()
    yield "page", 502, EVIL.encode()
    yield "page 200", 200, EVIL.encode()
    yield "latin", 500, EVIL.encode("latin-1", "replace")
    yield "spaces", 200, b'{\t"outputs":\r\n{"y": [1.0]}}'


@contextmanager
def hostile_server(status: int, body: bytes) -> Iterator[str]:
    class Handler(QuietHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status, EVIL.replace("\u202e", "").replace("\r", ""))
            for header in ("x-turnout-model", "x-turnout-version", "x-turnout-digest", "x-amzn-errortype"):
                self.send_header(header, "a\x1b[31m\x9b")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    for method in ("GET", "POST", "PATCH", "PUT"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with loopback_server(Handler) as url:
        yield url


@pytest.mark.parametrize(("status", "body"), [entry[1:] for entry in bodies()], ids=[entry[0] for entry in bodies()])
def test_a_hostile_server(status: int, body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = write_project(tmp_path / "project")
    capture = tmp_path / "captured.jsonl"
    request = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}
    capture.write_text(
        json.dumps({"model": "echo", "version": "v1", "request": request, "response": ANSWERS["outputs"]}) + "\n"
    )
    with hostile_server(status, body) as url:
        for arguments in (
            ["invoke", "echo", "v1", "--url", url],
            ["invoke", "echo", "v1", "--data", "{}", "--url", url],
            ["invoke", "echo", "v1", "--json", "--url", url],
            ["test", "--url", url],
            ["test", "--json", "--url", url],
            ["replay", str(capture), "--against", "echo/v1", "--against", "echo/v2", "--url", url],
            ["replay", str(capture), "--against", "echo/v1", "--json", "--url", url],
            ["canary", "status", "prod", "--endpoint-url", url],
            ["canary", "set", "prod", "--percent", "20", "--now", "--endpoint-url", url],
            ["canary", "mend", "prod", "--endpoint-url", url],
            ["canary", "run", "prod", "--endpoint-url", url],
        ):
            code = main([*arguments, "-m", str(project)])
            out, err = capsys.readouterr()
            assert code in {0, 1, 2}
            assert out + err
            assert "unexpected" not in err, (arguments, err)
            assert not RAW.search(out + err), (arguments, out + err)


def test_a_page_that_is_json_stays_the_same_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps(ANSWERS["outputs"], ensure_ascii=False).encode()
    with hostile_server(200, body) as url:
        assert main(["invoke", "echo", "--data", "{}", "--json", "--url", url, "-m", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWERS["outputs"]


def test_serve_prints_and_logs_nothing_raw(hostile: Path) -> None:
    for log_format in ("text", "json"):
        command = ("--preload", "--log-format", log_format)
        with running_server(hostile, *command) as server:
            body = {"inputs": {f"in{EVIL}": [["x", 1, 1, 1]]}}
            server.post("/models/echo/inference", body, **{"user-agent": "a\x9bb"})
            server.request("GET", "/models/a%1b%c2%9b/x")
        for stream in (server.stdout, server.stderr):
            text = stream.read_bytes().decode()
            assert not RAW.search(text), repr(text)


def test_debug_of_the_process_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "turnout.cli", "--debug", "replay", f"{tmp_path}/{EVIL}", "--against", "echo/v1"],
        capture_output=True,
        check=False,
    )
    assert not RAW.search((done.stdout + done.stderr).decode())
