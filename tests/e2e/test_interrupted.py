"""SIGTERM and SIGINT while `build` works and `serve --isolated` starts: no process outlives the command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.processes import is_alive
from tests.builders.waiting import PATIENCE_S, wait_until


def parents() -> dict[int, int]:
    results = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = path.read_text().partition(" ")
        except OSError:
            continue
        results[int(pid)] = int(rest.rpartition(")")[2].split()[1])
    return results


def descendants(pid: int) -> set[int]:
    of = parents()
    results: set[int] = set()
    while more := {child for child, parent in of.items() if parent in {pid, *results}} - results:
        results |= more
    return results


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", [("build",), ("serve", "--isolated", "--preload", "--port", "0")])
@pytest.mark.parametrize("seen_before", [1, 3, 6])
def test_no_process_outlives_an_interrupted_command(
    tmp_path: Path, root: Path, command: tuple[str, ...], number: signal.Signals, seen_before: int
) -> None:
    shutil.copytree(root / "models", tmp_path / "models")
    shutil.copy(root / "models.yaml", tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "turnout.cli", *command],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    seen: set[int] = set()

    def is_begun() -> bool:
        seen.update(descendants(process.pid))
        return len(seen) >= seen_before

    wait_until(is_begun, "it has started processes", 180)
    seen.update(descendants(process.pid))
    process.send_signal(number)
    _, text = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number], text
    assert b"Traceback" not in text
    wait_until(lambda: not any(map(is_alive, seen)), "nothing is left")
    assert not list(tmp_path.rglob("*.part"))
