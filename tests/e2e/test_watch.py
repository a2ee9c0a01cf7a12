"""Hot reload: edits while real clients send requests."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest

from tests.builders.graphs import write_identity
from tests.builders.processes import children, connections_of
from tests.builders.running_server import Answer, RunningServer, running_server
from tests.builders.waiting import PATIENCE_S, wait_until

MANIFEST = """
platform: turnout
models:
  iris:
    versions:
      v1: {artifact: models/iris/v1/model.onnx}
      v2: {artifact: models/iris/v2/model.onnx}
  echo:
    versions:
      v1: {artifact: echo.onnx, transform: change.py}
stages:
  dev: {serve: {iris: v1, echo: v1}}
"""
TRANSFORM = "def preprocess(inputs):\n    return {name: values * 2 for name, values in inputs.items()}\n"
IRIS = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
ECHO = {"inputs": {"x": [[1, 2, 3, 4]]}}


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    shutil.copytree(root / "models" / "iris", tmp_path / "models" / "iris")
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "change.py").write_text(TRANSFORM)
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.fixture
def server(project: Path) -> Iterator[RunningServer]:
    with running_server(project, "--workers", "2", "--watch") as server:
        yield server


def replace(path: Path, content: bytes | str) -> None:
    """Replace a file as careful editors do: write a new file next to it, then rename it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content if isinstance(content, bytes) else content.encode())
    beside.replace(path)


def edit(project: Path, old: str, new: str) -> None:
    manifest = project / "models.yaml"
    text = manifest.read_text()
    assert old in text
    replace(manifest, text.replace(old, new))


def await_message(server: RunningServer, text: str, times: int = 1) -> str:
    wait_until(lambda: server.stderr.read_text().count(text) >= times, f"{text!r} in the log {times} times")
    return server.stderr.read_text()


@contextmanager
def load(server: RunningServer, path: str, body: object, clients: int = 4) -> Iterator[list[list[Answer]]]:
    """Clients that send requests without a pause, each over one connection; yields their answers, in order."""
    answers: list[list[Answer]] = [[] for _ in range(clients)]
    failures: list[Exception] = []
    stop = threading.Event()

    def call(mine: list[Answer]) -> None:
        with server.client() as client:
            while not stop.is_set():
                try:
                    mine.append(client.post(path, body))
                except Exception as error:
                    failures.append(error)

    callers = [threading.Thread(target=call, args=(mine,)) for mine in answers]
    for caller in callers:
        caller.start()
    try:
        wait_until(lambda: all(len(mine) > 3 for mine in answers), "everybody is served")
        assert [connections_of(pid, server.port) for pid in children(server.process.pid)] == [clients // 2] * 2
        yield answers
    finally:
        stop.set()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert failures == []


def switches(answers: list[Answer], header: str) -> list[str]:
    """Return the values that a client saw, in order, without repetitions."""
    values = [answer.headers[header] for answer in answers]
    return [value for index, value in enumerate(values) if index == 0 or values[index - 1] != value]


def every_client_saw(answers: list[list[Answer]], header: str, value: str) -> Callable[[], bool]:
    return lambda: all(mine[-1].headers[header] == value for mine in answers)


def test_an_edited_manifest_is_applied_without_a_failed_request(server: RunningServer, project: Path) -> None:
    with load(server, "/models/iris/inference", IRIS) as answers:
        edit(project, "serve: {iris: v1", "serve: {iris: v2")
        wait_until(every_client_saw(answers, "x-turnout-version", "v2"), "everybody sees v2")
        counts = [len(mine) for mine in answers]
        wait_until(lambda: all(len(mine) > n + 20 for mine, n in zip(answers, counts, strict=True)), "and goes on")
    assert [switches(mine, "x-turnout-version") for mine in answers] == [["v1", "v2"]] * 4
    assert {answer.status for mine in answers for answer in mine} == {200}
    text = await_message(server, "reloaded")
    assert f"reloaded {project}/models.yaml: stage dev changed" in text
    assert text.count("reloaded") == 1


def test_a_model_moves_behind_a_router_and_back_without_a_failed_request(server: RunningServer, project: Path) -> None:
    plain, routed = "dev: {serve: {iris: v1, echo: v1}}", "dev: {serve: {echo: v1}, weights: {iris: {v1: 0, v2: 100}}}"
    with load(server, "/models/iris/inference", IRIS) as answers:
        edit(project, plain, routed)
        wait_until(every_client_saw(answers, "x-turnout-version", "v2"), "everybody sees v2")
        assert all(mine[-1].headers["x-turnout-route"] == "weight" for mine in answers)
        edit(project, routed, plain)
        wait_until(every_client_saw(answers, "x-turnout-version", "v1"), "everybody sees v1 again")
    assert [switches(mine, "x-turnout-version") for mine in answers] == [["v1", "v2", "v1"]] * 4
    assert {answer.status for mine in answers for answer in mine} == {200}
    assert "iris router is new" in await_message(server, "reloaded", 2)


def test_a_new_artifact_is_served_over_the_same_connections(server: RunningServer, project: Path) -> None:
    other = onnx.load(project / "models/iris/v1/model.onnx")
    other.doc_string = "another one"
    with load(server, "/models/iris/v1/inference", IRIS) as answers:
        before = answers[0][0].headers["x-turnout-digest"]
        replace(project / "models/iris/v1/model.onnx", other.SerializeToString())
        wait_until(lambda: all(mine[-1].headers["x-turnout-digest"] != before for mine in answers), "everybody sees it")
    assert [len(switches(mine, "x-turnout-digest")) for mine in answers] == [2] * 4
    assert {answer.status for mine in answers for answer in mine} == {200}
    assert "iris v1 changed\n" in await_message(server, "reloaded")


def test_the_second_of_two_edits_of_a_transform_within_a_second_is_served(server: RunningServer, project: Path) -> None:
    assert server.post("/models/echo/inference", ECHO).json()["outputs"]["y"] == [[2, 4, 6, 8]]
    for times, factor in enumerate((3, 5)):
        replace(project / "change.py", TRANSFORM.replace("* 2", f"* {factor}"))
        await_message(server, "echo v1 changed", times + 1)
        for _ in range(4):  # two for each worker
            assert server.post("/models/echo/inference", ECHO).json()["outputs"]["y"][0][0] == factor
    assert not list(project.glob("**/__pycache__"))


def test_a_helper_next_to_a_transform_is_watched(server: RunningServer, project: Path) -> None:
    (project / "pkg").mkdir()
    (project / "pkg" / "helper.py").write_text("FACTOR = 3\n")
    source = "def preprocess(inputs):\n    from pkg import helper\n    return {'x': inputs['x'] * helper.FACTOR}\n"
    replace(project / "change.py", source)
    await_message(server, "echo v1 changed")
    for times, factor in enumerate((3, 5, 7)):
        if times:
            replace(project / "pkg" / "helper.py", f"FACTOR = {factor}\n")
            await_message(server, "echo v1 changed", times + 1)
        for _ in range(4):
            assert server.post("/models/echo/inference", ECHO).json()["outputs"]["y"][0][0] == factor


def test_an_invalid_edit_keeps_the_last_valid_edition_and_is_reported_once(
    server: RunningServer, project: Path
) -> None:
    good = (project / "models.yaml").read_text()
    with load(server, "/models/iris/inference", IRIS) as answers:
        edit(project, "{iris: v1", "{iris: v9")
        text = await_message(server, "Not reloaded: the server still serves the previous files.")
        assert f"{project}/models.yaml:12:" in text
        assert "v9" in text
        os.utime(project / "models.yaml")  # no other edit
        replace(project / "models.yaml", good.replace("{iris: v1", "{iris: [v1"))  # another invalid edit
        await_message(server, "Not reloaded", 2)
        replace(project / "models.yaml", good.replace("{iris: v1", "{iris: v2"))
        wait_until(every_client_saw(answers, "x-turnout-version", "v2"), "everybody sees v2")
    assert [switches(mine, "x-turnout-version") for mine in answers] == [["v1", "v2"]] * 4
    assert {answer.status for mine in answers for answer in mine} == {200}
    text = await_message(server, "reloaded " + str(project))
    assert text.count("Not reloaded") == 2
    assert "Traceback" not in text


def open_echo(server: RunningServer) -> None:
    """Open the model in both workers: two connections at once are given to two workers."""
    with server.client() as one, server.client() as other:
        assert [client.post("/models/echo/inference", ECHO).status for client in (one, other)] == [200, 200]
        assert [connections_of(pid, server.port) for pid in children(server.process.pid)] == [1, 1]


@pytest.mark.parametrize("what", ["artifact", "transform"])
def test_a_version_that_cannot_be_opened_is_an_invalid_edit(server: RunningServer, project: Path, what: str) -> None:
    open_echo(server)
    if what == "artifact":
        model = onnx.load(project / "echo.onnx")
        model.graph.node[0].op_type = "NoSuchOperator"
        replace(project / "echo.onnx", model.SerializeToString())
        reason = "NoSuchOperator"
    else:
        replace(project / "change.py", "import nowhere_to_be_found\n" + TRANSFORM)
        reason = "nowhere_to_be_found"
    text = await_message(server, "Not reloaded")
    assert f"{project}/models.yaml:10:" in text
    assert "models.echo.versions.v1: " in text
    assert reason in text
    for _ in range(4):
        assert server.post("/models/echo/inference", ECHO).json()["outputs"]["y"] == [[2, 4, 6, 8]]
    assert "Traceback" not in server.stderr.read_text()


def test_a_file_that_ends_the_process_reading_it_ends_no_other_process(server: RunningServer, project: Path) -> None:
    open_echo(server)
    before = children(server.process.pid)
    replace(project / "change.py", "import os\nos.kill(os.getpid(), 9)\n" + TRANSFORM)
    await_message(server, "reading the files ended with signal SIGKILL\nNot reloaded")
    assert server.post("/models/echo/inference", ECHO).status == 200
    assert children(server.process.pid) == before
    replace(project / "change.py", TRANSFORM.replace("* 2", "* 4"))
    await_message(server, "echo v1 changed")
    assert server.post("/models/echo/inference", ECHO).json()["outputs"]["y"] == [[4, 8, 12, 16]]


ONCE = """
from pathlib import Path
HERE = Path(PROJECT) / "opened"
if HERE.exists():
    raise RuntimeError("no memory left")
HERE.touch()
"""


def test_an_edition_that_one_worker_cannot_serve_is_served_by_none(server: RunningServer, project: Path) -> None:
    open_echo(server)
    edit(project, "serve: {iris: v1", "serve: {iris: v2")
    replace(project / "change.py", ONCE.replace("PROJECT", repr(str(project))) + TRANSFORM.replace("* 2", "* 3"))
    text = await_message(server, "Not reloaded")
    assert "cannot serve it" in text
    assert "no memory left" in text
    for _ in range(4):
        assert server.post("/models/iris/inference", IRIS).headers["x-turnout-version"] == "v1"
        assert server.post("/models/echo/inference", ECHO).json()["outputs"]["y"] == [[2, 4, 6, 8]]
    replace(project / "change.py", TRANSFORM.replace("* 2", "* 3"))
    await_message(server, "echo v1 changed, stage dev changed")


def test_an_artifact_that_is_still_being_written_is_not_served(server: RunningServer, project: Path) -> None:
    other = onnx.load(project / "models/iris/v1/model.onnx")
    other.doc_string = "another one"
    content = other.SerializeToString()
    with load(server, "/models/iris/v1/inference", IRIS) as answers:
        before = answers[0][0].headers["x-turnout-digest"]
        with (project / "models/iris/v1/model.onnx").open("r+b") as file:  # in place, as a copy does it
            file.write(content[:200])
            file.flush()
            counts = [len(mine) for mine in answers]
            # Longer than everything else takes: any other edit would be served by now.
            edit(project, "platform: turnout", "platform: turnout\n# a comment")
            wait_until(lambda: all(len(mine) > n + 500 for mine, n in zip(answers, counts, strict=True)), "they go on")
            assert {answer.headers["x-turnout-digest"] for mine in answers for answer in mine} == {before}
            file.write(content[200:])
            file.truncate()
        wait_until(lambda: all(mine[-1].headers["x-turnout-digest"] != before for mine in answers), "everybody sees it")
    assert {answer.status for mine in answers for answer in mine} == {200}
    assert "Not reloaded" not in server.stderr.read_text()


def test_a_version_whose_file_arrives_later_is_served_then(server: RunningServer, project: Path) -> None:
    edit(project, "  echo:\n", "  late:\n    versions:\n      v1: {artifact: later/late.onnx}\n  echo:\n")
    edit(project, "echo: v1}", "echo: v1, late: v1}")
    text = await_message(server, "no such file: later/late.onnx")
    assert server.post("/models/late/inference", ECHO).status == 403
    (project / "later").mkdir()
    write_identity(project / "later" / "late.onnx")
    text = await_message(server, "late v1 is new")
    assert "stage dev changed" in text
    for _ in range(4):
        assert server.post("/models/late/inference", ECHO).status == 200


def test_a_stage_that_starts_to_require_a_key_gets_one(server: RunningServer, project: Path) -> None:
    edit(project, "stages:\n", "stages:\n  keyed: {serve: {'*': newest}, auth: api_key}\n")
    await_message(server, "stage keyed is new")
    assert server.post("/keyed/models/iris/inference", IRIS).status == 403
    answer = server.post("/keyed/models/iris/inference", IRIS, x_api_key=server.api_key("keyed"))
    assert (answer.status, answer.headers["x-turnout-version"]) == (200, "v2")


def test_a_worker_started_after_a_reload_serves_the_new_edition(server: RunningServer, project: Path) -> None:
    edit(project, "serve: {iris: v1", "serve: {iris: v2")
    await_message(server, "reloaded")
    before = children(server.process.pid)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(children(server.process.pid)) - set(before)) == 2, "two new workers")
    for _ in range(4):
        assert server.post("/models/iris/inference", IRIS).headers["x-turnout-version"] == "v2"


def test_without_watch_only_sighup_reloads(project: Path) -> None:
    with running_server(project, "--workers", "2") as server:
        edit(project, "serve: {iris: v1", "serve: {iris: v2")
        with load(server, "/models/iris/inference", IRIS) as answers:
            counts = [len(mine) for mine in answers]
            wait_until(lambda: all(len(mine) > n + 300 for mine, n in zip(answers, counts, strict=True)), "they go on")
            assert {answer.headers["x-turnout-version"] for mine in answers for answer in mine} == {"v1"}
            server.signal(signal.SIGHUP)
            wait_until(every_client_saw(answers, "x-turnout-version", "v2"), "everybody sees v2")
        assert {answer.status for mine in answers for answer in mine} == {200}
        for times in (1, 2):  # a repeated request is reported again
            (project / "models.yaml").write_text("nonsense")
            server.signal(signal.SIGHUP)
            await_message(server, "Not reloaded", times)
        assert server.post("/models/iris/inference", IRIS).status == 200
        assert server.stop() == 0
