"""Each run against a real server, for a moment. Bounds in seconds are left to `make soak`, because test machines are
busy.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soak.__main__ import main, make_run
from soak.runs.registry import RUNS
from soak.server import PATIENCE_S, until

COMMAND = (sys.executable, "-m", "turnout.cli")
TIMED = frozenset({"overload", "abandoned"})
"""Runs whose promises are about seconds."""


def test_shares_add_up_to_the_total_time() -> None:
    assert sum(share for _, share in RUNS.values()) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_run_attacks_a_real_server(name: str, tmp_path: Path) -> None:
    result = make_run(name, 1.0, 3, COMMAND, tmp_path, requests=60)
    assert result.run == name
    assert result.requests > 0
    assert result.seen
    if name not in TIMED:
        assert result.broken == ()


def test_server_that_does_not_start_is_a_broken_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "raw-http", "--minutes", "0.01", "--command", f"{sys.executable} -c pass"]) == 1
    printed = capsys.readouterr().out
    assert "broken: the server did not start" in printed
    assert "make soak RUNS=raw-http SEED=12" in printed


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "raw-http,fuzz", "--json", "--seed", "4", "--command", f"{sys.executable} -c pass"]
    assert main(arguments) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["seed"], printed["holds"]) == (4, False)
    assert [run["run"] for run in printed["runs"]] == ["raw-http", "fuzz"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--only", "nothing"], "unknown run 'nothing', the runs are fuzz, "),
        (["--minutes", "0"], "must be more than 0"),
        (["--minutes", "x"], "invalid"),
        (["--requests", "0"], "must be at least 1"),
        (["--seed", "x"], "invalid int"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert what in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_soak_leaves_no_server(tmp_path: Path, root: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "soak", "--only", "growth", "--minutes", "60"]
    soak = subprocess.Popen(command, cwd=root, env=environment)

    def servers() -> list[Path]:
        results = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(tmp_path).encode() in entry.read_bytes():
                    results.append(entry)
        return results

    try:
        until(lambda: len(servers()) > 1, "the server runs")
        soak.terminate()
        assert soak.wait(PATIENCE_S) == 143
        until(lambda: not servers(), "no server is left")
    finally:
        soak.kill()
        soak.wait()
