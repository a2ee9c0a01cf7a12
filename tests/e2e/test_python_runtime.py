"""Versions with `runtime: python`: commands, servers, edits and canaries."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.canary_commands import Commands
from tests.builders.python_project import SIGNATURE, write_python_project, write_version
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until
from turnout.cli.__main__ import main

ROW = [1, 2, 3, 4]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_python_project(tmp_path)


def answer(server: RunningServer, path: str, body: Any = None) -> tuple[int, Any]:
    with server.client() as client:
        response = client.post(f"{path}/inference", body or {"instances": [ROW]})
    return response.status, response.json()


def predictions(server: RunningServer, path: str) -> Any:
    return answer(server, path)[1].get("predictions")


def times(factor: int) -> list[list[float]]:
    return [[factor * value for value in ROW]]


def check_server(server: RunningServer) -> None:
    """Check that both versions answer, each with its own helper, and that every failure has its status."""
    assert predictions(server, "/dev/models/echo/v2") == times(10)
    assert predictions(server, "/dev/models/echo/v3") == times(100)
    assert predictions(server, "/dev/models/echo") == times(10)
    for value, status, code in (
        (-1, 422, "REFUSED_BY_MODEL"),
        (-2, 422, "REFUSED_BY_MODEL"),
        (-3, 500, "MODEL_FAILED"),
        (-4, 500, "MODEL_FAILED"),
    ):
        response = answer(server, "/dev/models/echo/v2", {"instances": [[value, 0, 0, 0]]})
        assert (response[0], response[1]["code"]) == (status, code)
    status, body = answer(server, "/dev/models/echo/v2", {"instances": [[1, 2]]})
    assert (status, body["code"]) == (400, "SHAPE_MISMATCH")
    with server.client() as client:
        metadata = client.request("GET", "/dev/v2/models/echo/versions/v2").json()
        assert metadata["platform"] == "python"
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert client.request("GET", "/dev/v2/models/echo/versions/v2/ready").status == 200


def test_versions_are_served_in_process(project: Path) -> None:
    with running_server(project, "--preload") as server:
        check_server(server)
        assert "predict returned FP64 for `y`, declared FP32" in server.stderr.read_text()


def test_versions_are_served_isolated(project: Path) -> None:
    with running_server(project, "--isolated", "--preload") as server:
        check_server(server)
        assert server.stop() == 0


@pytest.fixture(params=["", "--isolated"])
def watched(request: pytest.FixtureRequest, project: Path) -> Iterator[RunningServer]:
    flags = [request.param] if request.param else []
    with running_server(project, "--watch", *flags) as server:
        yield server


def test_watch_applies_edits_of_the_file_and_its_helpers(watched: RunningServer) -> None:
    folder = watched.project / "models/echo/v2"
    path = "/dev/models/echo/v2"
    assert predictions(watched, path) == times(10)
    source = (folder / "predict.py").read_text()
    (folder / "predict.py").write_text(source.replace("x *= factor", "x *= factor + 1"))
    wait_until(lambda: predictions(watched, path) == times(11), "the edit of predict.py is served")
    (folder / "factor.json").write_text("7")
    wait_until(lambda: predictions(watched, path) == times(15), "the edit of a file beside it is served")
    assert predictions(watched, "/dev/models/echo/v3") == times(100)
    (folder / "predict.py").write_text(source.replace("def predict", "def forget"))
    wait_until(lambda: "predict.py defines no `predict`" in watched.stderr.read_text(), "a broken edit is reported")
    assert predictions(watched, path) == times(15)
    (folder / "predict.py").write_text(source)
    wait_until(lambda: predictions(watched, path) == times(14), "the mended file is served")


def test_without_watch_an_edit_is_served_only_after_sighup(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        assert predictions(server, "/dev/models/echo/v2") == times(10)
        (project / "models/echo/v2/factor.json").write_text("6")
        assert predictions(server, "/dev/models/echo/v2") == times(10)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: predictions(server, "/dev/models/echo/v2") == times(12), "the edit is served")


def test_a_canary_moves_traffic_from_onnx_to_python(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_server(project, "--workers", "1") as server:
        canary = Commands(server, capsys)
        canary("start", "prod", "--model", "echo", "--to", "v2", "--percent", "50", *canary.now)
        with server.client() as client:
            answers = [client.post("/prod/models/echo/inference", {"instances": [ROW]}) for _ in range(60)]
        seen = {(answer.headers["x-turnout-version"], answer.json()["predictions"][0][0]) for answer in answers}
        assert seen == {("v1", 1.0), ("v2", 10.0)}
        canary("promote", "prod", *canary.now)
        assert predictions(server, "/prod/models/echo") == times(10)


def test_a_canary_with_another_signature_is_rejected(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "models.yaml").read_text()
    other = SIGNATURE.replace("FP32, shape: [-1, 4]}}, outputs", "FP64, shape: [-1, 4]}}, outputs")
    text = text.replace(f"v2/predict.py, signature: {SIGNATURE}", f"v2/predict.py, signature: {other}")
    text = text.replace(
        "prod: {serve: {echo: v1}}", "prod: {serve: {echo: v1}, canary: {percent: 10, serve: {echo: v2}}}"
    )
    (project / "models.yaml").write_text(text)
    assert main(["validate", "-m", str(project)]) == 2
    assert "FP64" in capsys.readouterr().err


def test_captured_requests_are_replayed(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = tmp_path / "capture.jsonl"
    with running_server(project, "--capture", str(capture)) as server:
        for _ in range(5):
            assert predictions(server, "/dev/models/echo/v2") == times(10)
    with running_server(project) as server:
        arguments = [
            "replay",
            str(capture),
            "--against",
            "echo/v2",
            "--endpoint-url",
            f"http://127.0.0.1:{server.port}",
        ]
        assert main([*arguments, "-m", str(project)]) in {0, 1}, capsys.readouterr()


def test_add_validate_plan_and_build(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_version(tmp_path / "elsewhere", 3)
    signature = tmp_path / "signature.yaml"
    signature.write_text(SIGNATURE)
    assert main(["add", "echo", "v4", str(path), "--signature", str(signature), "-m", str(project)]) == 0
    folder = project / "models/echo/v4"
    assert {file.name for file in folder.rglob("*") if file.is_file()} == {
        "predict.py",
        "helper.py",
        "factor.json",
        "about.txt",
    }
    assert main(["validate", "-m", str(project)]) == 0
    capsys.readouterr()
    assert main(["plan", "--json", "-m", str(project)]) == 0
    plan = json.loads(capsys.readouterr().out)
    packages = {package["name"]: package for package in plan["packages"]}
    assert packages["echo_v4"]["layer_bytes"] < packages["echo_v1"]["layer_bytes"]
    assert main(["build", "--here", "--json", "-m", str(project)]) == 0
    built = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert built["echo_v4"]["layer"] == built["echo_v2"]["layer"] != built["echo_v1"]["layer"]
    assert main(["remove", "echo", "v4", "--delete-files", "-m", str(project)]) == 0
    assert not folder.exists()


def test_calls_run_concurrently_in_threads(project: Path) -> None:
    """`predict` waits until another call has started, so both must run at the same time."""
    (project / "models/echo/v3/predict.py").write_text(
        "import threading\nmeet = threading.Barrier(2)\n"
        "def load(folder):\n    pass\n"
        "def predict(inputs):\n    meet.wait(60)\n    return {'y': inputs['x']}\n"
    )
    with running_server(project, "--workers", "1") as server:
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(answer(server, "/dev/models/echo/v3"))) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [status for status, _ in results] == [200, 200]
