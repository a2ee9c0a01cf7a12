"""Processes that end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.processes import is_alive
from tests.builders.waiting import PATIENCE_S, wait_until
from turnout.system.processes import EndingError, allow_children, check_ending, end_children, run_child

SLEEP = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(100_000)"


@pytest.fixture(autouse=True)
def not_ending() -> Iterator[None]:
    yield
    allow_children()


def await_pid(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text() != "", "the child runs")
    return int(path.read_text())


def test_a_child_gets_its_input_and_its_output_and_exit_code_are_returned(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.read() + os.environ['NAME'], os.getcwd()); sys.exit(3)"
    done = run_child([sys.executable, "-c", code], stdin="said ", cwd=tmp_path, env={"NAME": "here"})
    assert (done.returncode, done.stdout.strip(), done.stderr) == (3, f"said here {tmp_path}", "")


def test_children_end_immediately_and_none_is_started_afterwards(tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            run_child([sys.executable, "-c", SLEEP, str(tmp_path / "pid")])
        except EndingError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    pid = await_pid(tmp_path / "pid")
    end_children()
    thread.join(60)
    assert len(raised) == 1
    assert not is_alive(pid)
    with pytest.raises(EndingError):
        run_child([sys.executable, "-c", ""])
    with pytest.raises(EndingError):
        check_ending()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_ends_with_its_parent_in_any_case(tmp_path: Path, number: signal.Signals, root: Path) -> None:
    program = f"""
    import sys
    from turnout.gateway.interrupt import remembered_interrupt
    from turnout.system.processes import run_child
    with remembered_interrupt():
        run_child([sys.executable, "-c", {SLEEP!r}, {str(tmp_path / "pid")!r}])
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=root, stderr=subprocess.PIPE)
    pid = await_pid(tmp_path / "pid")
    os.kill(parent.pid, number)
    _, text = parent.communicate(timeout=PATIENCE_S)
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: -2}
    assert parent.returncode == expected[number], text
    wait_until(lambda: not is_alive(pid), "the child is gone")
