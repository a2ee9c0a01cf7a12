"""Hung workers, hanging transforms, a system that cannot start a process: the server continues, or ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.processes import children, is_alive
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S, wait_until

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: echo.onnx, transform: change.py, memory_mb: 128}
stages:
  dev: {serve: {"*": newest}}
"""
TRANSFORM = "def preprocess(inputs):\n    return {name: values * 2 for name, values in inputs.items()}\n"
HANGING = """
import pathlib, time
pathlib.Path(PROJECT, "hangs").touch()
time.sleep(100_000)
"""
ECHO = {"inputs": {"x": [[1, 2, 3, 4]]}}
PATH = "/models/echo/v1/inference"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "change.py").write_text(TRANSFORM)
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


def replace(path: Path, content: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(content)
    beside.replace(path)


def await_message(server: RunningServer, text: str) -> str:
    wait_until(lambda: text in server.stderr.read_text(), f"{text!r} in the log", PATIENCE_S)
    return server.stderr.read_text()


def answered(server: RunningServer) -> list[list[float]]:
    result: list[list[float]] = server.post(PATH, ECHO).json()["outputs"]["y"]
    return result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stopped", [1, 2])
def test_hung_workers_are_killed_at_a_stop_and_the_exit_code_shows_it(
    project: Path, number: signal.Signals, stopped: int
) -> None:
    with running_server(project, "--workers", "2") as server:
        pids = children(server.process.pid)
        for pid in pids[:stopped]:
            os.kill(pid, signal.SIGSTOP)
        server.signal(number)
        assert server.wait() == 1
        assert not any(map(is_alive, pids))
        text = server.stderr.read_text()
    workers = "1 worker" if stopped == 1 else "2 workers"
    assert f"turnout: {workers} did not stop in time and had to be killed" in text
    assert text.count("has not answered for 5 s and is killed") == stopped
    assert "Traceback" not in text


def test_a_hung_worker_is_replaced_at_the_reload_that_it_would_block(project: Path) -> None:
    with running_server(project, "--workers", "2", "--watch", "--preload") as server:
        hung = children(server.process.pid)[0]
        os.kill(hung, signal.SIGSTOP)
        replace(project / "change.py", TRANSFORM.replace("* 2", "* 3"))
        await_message(server, "echo v1 changed")
        wait_until(lambda: not is_alive(hung), "the hung worker is gone")
        wait_until(lambda: len(children(server.process.pid)) == 2, "another one is there")
        for _ in range(4):
            assert answered(server) == [[3, 6, 9, 12]]
        assert server.stop() == 0


def test_a_transform_that_hangs_during_import_does_not_block_later_edits(project: Path) -> None:
    with running_server(project, "--workers", "2", "--watch", "--preload") as server:
        assert answered(server) == [[2, 4, 6, 8]]
        replace(project / "change.py", HANGING.replace("PROJECT", repr(str(project))) + TRANSFORM)
        wait_until((project / "hangs").exists, "it hangs")
        assert answered(server) == [[2, 4, 6, 8]]
        replace(project / "change.py", TRANSFORM.replace("* 2", "* 5"))
        await_message(server, "echo v1 changed")
        assert answered(server) == [[5, 10, 15, 20]]
        assert len(children(server.process.pid)) == 2
        assert server.stop() == 0


def test_a_transform_that_hangs_during_import_is_an_invalid_edit(project: Path) -> None:
    with running_server(project, "--workers", "1", "--watch") as server:
        assert answered(server) == [[2, 4, 6, 8]]
        replace(project / "change.py", HANGING.replace("PROJECT", repr(str(project))) + TRANSFORM)
        text = await_message(server, "Not reloaded")
        assert f"{project}/models.yaml:6:" in text
        assert "opening it took longer than 31 s" in text
        assert answered(server) == [[2, 4, 6, 8]]


def test_the_process_that_reads_the_files_ends_with_its_supervisor(project: Path) -> None:
    with running_server(project, "--workers", "1", "--watch") as server:
        workers = children(server.process.pid)
        replace(project / "change.py", HANGING.replace("PROJECT", repr(str(project))) + TRANSFORM)
        wait_until((project / "hangs").exists, "it hangs")
        pids = children(server.process.pid)
        assert len(pids) == len(workers) + 1
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(is_alive, pids)), "no process is left")


def test_a_failed_fork_ends_nothing_and_is_retried(project: Path, root: Path) -> None:
    full = project / "full"
    command = (sys.executable, "-m", "tests.builders.short_server", str(full))
    with running_server(project, "--workers", "2", "--watch", "--preload", command=command, cwd=root) as server:
        first, second = children(server.process.pid)
        full.touch()
        os.kill(first, signal.SIGKILL)
        await_message(server, "cannot be started: Resource temporarily unavailable; the next try is in 0.25 s")
        replace(project / "change.py", TRANSFORM.replace("* 2", "* 3"))
        await_message(server, "the files cannot be read: Resource temporarily unavailable\nNot reloaded")
        server.signal(signal.SIGHUP)
        assert answered(server) == [[2, 4, 6, 8]]
        assert children(server.process.pid) == [second]
        full.unlink()
        await_message(server, "echo v1 changed")
        wait_until(lambda: len(children(server.process.pid)) == 2, "the worker is back")
        for _ in range(4):
            assert answered(server) == [[3, 6, 9, 12]]
        assert server.stop() == 0


def test_a_start_that_cannot_fork_a_worker_is_an_error(project: Path, root: Path) -> None:
    full = project / "full"
    full.touch()
    command = (sys.executable, "-m", "tests.builders.short_server", str(full))
    with pytest.raises(AssertionError) as caught, running_server(project, command=command, cwd=root):
        pass
    assert "cannot be started: Resource temporarily unavailable." in str(caught.value)
    assert "Traceback" not in str(caught.value)
