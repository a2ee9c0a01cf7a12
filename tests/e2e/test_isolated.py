"""`turnout serve --isolated`: every example, in processes that end with the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.isolated_project import FILL, HANG, SLEEP, keepers_of, share_packages, write_misbehaving
from tests.builders.model_functions import open_request
from tests.builders.running_server import Answer, RunningServer, running_server, serve_command
from tests.builders.waiting import PATIENCE_S, wait_until
from tests.e2e.test_examples import EXAMPLES, check
from turnout.artifacts.examples import Example, matches
from turnout.cli.__main__ import main


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[RunningServer]:
    """The repository's models.yaml, with every version at Lambda's minimum memory."""
    project = tmp_path_factory.mktemp("isolated-sample")
    shutil.copytree(root / "models", project / "models")
    text = (root / "models.yaml").read_text()
    assert "memory_mb: 1024" in text
    (project / "models.yaml").write_text(text.replace("memory_mb: 1024", "memory_mb: 128"))
    share_packages(project, tmp_path_factory)
    with running_server(project, "--isolated", "--preload") as server:
        yield server
        assert server.stop() == 0
    assert processes_below(project) == set()


@pytest.fixture
def misbehaving(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_misbehaving(tmp_path)
    share_packages(project, tmp_path_factory)
    return project


def processes_below(project: Path) -> set[int]:
    """Return every running process that is an environment of this project or was started by one, without keepers."""
    variable = f"LAMBDA_TASK_ROOT={project}/".encode()
    results = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if any(value.startswith(variable) for value in (entry / "environ").read_bytes().split(b"\0")):
                    results.add(int(entry.name))
            except OSError:
                continue
    return results - keepers_of(results)


def await_processes(project: Path, count: int) -> set[int]:
    results: set[int] = set()

    def are_there() -> bool:
        nonlocal results
        results = processes_below(project)
        return len(results) == count

    wait_until(are_there, lambda: f"{count} processes; there are {len(results)}")
    return results


def ask(server: RunningServer, action: int, argument: float = 0, model: str = "wild") -> Answer:
    return server.post(f"/models/{model}/inference", open_request([action, argument, 0, 0], [1, 4]))


def test_the_command_runs_the_examples_in_processes_that_end_with_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "models", tmp_path / "models")
    shutil.copy(root / "models.yaml", tmp_path)
    share_packages(tmp_path, tmp_path_factory)
    assert main(["test", "iris", "--isolated", "-m", str(tmp_path)]) == 0
    assert "8 of 8 examples passed" in capsys.readouterr().out
    assert processes_below(tmp_path) == set()


@pytest.mark.parametrize(("model", "version", "example"), EXAMPLES)
def test_an_example_is_answered_as_expected_with_the_minimum_memory(
    sample: RunningServer, model: str, version: str, example: Example
) -> None:
    answer = sample.post(f"/models/{model}/{version}/inference", example.request)
    check(answer, model, version)
    assert matches(example, answer.json()) == []


def test_cold_starts_are_reported(sample: RunningServer) -> None:
    text = sample.stderr.read_text()
    for model, version in {case.values[:2] for case in EXAMPLES}:
        assert f"{model} {version}: init " in text
    assert "OutOfMemory" not in text


def test_misbehavior_is_answered_as_on_aws_and_reported(misbehaving: Path) -> None:
    with running_server(misbehaving, "--isolated", "--workers", "1", "--max-environments", "1") as server:
        assert ask(server, 0).status == 200
        assert (ask(server, FILL, 600).status, ask(server, 0).status) == (502, 200)
        assert ask(server, 0, model="raises").status == 502
        assert ask(server, 0, model="none").status == 429
        assert ask(server, 0, model="stuck").status == 504
        assert ask(server, 0, model="plain").status == 200
        text = server.stderr.read_text()
        assert "Runtime.OutOfMemory" in text
        assert "ValueError: no such weights" in text
        assert "Traceback" not in "\n".join(line for line in text.splitlines() if "turnout.printed" not in line)
        assert server.stop() == 0
    assert processes_below(misbehaving) == set()


def test_reserved_concurrency_applies_across_all_workers(misbehaving: Path) -> None:
    with running_server(misbehaving, "--isolated", "--workers", "2", "--max-environments", "4") as server:
        answers: list[int] = []
        callers = [
            threading.Thread(target=lambda: answers.append(ask(server, SLEEP, 1.5, "alone").status)) for _ in range(6)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENCE_S)
        assert sorted(answers) == [200, 429, 429, 429, 429, 429]


def test_idle_processes_end(misbehaving: Path) -> None:
    with running_server(misbehaving, "--isolated", "--idle-timeout", "0.5") as server:
        assert ask(server, 0, model="plain").status == 200
        await_processes(misbehaving, 0)
        assert ask(server, 0, model="plain").status == 200


def test_a_killed_gateway_leaves_no_processes(misbehaving: Path) -> None:
    with running_server(misbehaving, "--isolated", "--workers", "2") as server:
        assert ask(server, 0, model="plain").status == 200

        def hang() -> None:
            with pytest.raises(ConnectionError):
                ask(server, HANG)

        hanging = threading.Thread(target=hang)
        hanging.start()
        await_processes(misbehaving, 3)  # one idle process, one that ignores SIGTERM, and what that one started
        gateway = [server.process.pid, *children_of(server.process.pid)]
        workers = [pid for pid in gateway if b"warden.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        hanging.join(PATIENCE_S)
        await_processes(misbehaving, 0)


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


def test_built_packages_work_offline_and_missing_ones_are_reported(
    misbehaving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server(misbehaving, "--isolated", "--workers", "1"):
        pass
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "no-cache"))
    with running_server(misbehaving, "--isolated", "--workers", "1") as server:
        assert ask(server, 0, model="plain").status == 200
    (misbehaving / ".turnout/packages").unlink()
    done = subprocess.run(
        serve_command(misbehaving / "models.yaml", "--isolated"), capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 1
    text = done.stderr.decode()
    assert "cannot prepare the environment of isolated functions" in text
    assert "Traceback" not in text
