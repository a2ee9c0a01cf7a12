"""The process that ends environments."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.builders.waiting import wait_until
from turnout.gateway.functions.isolated.warden import Warden, children_kb, function_kb, leader_kb, run
from turnout.gateway.functions.isolated.warden_client import ProcessGuard

Process = subprocess.Popen[bytes]

HOLD = "import time; held = b'x' * (%d << 20); print('held', flush=True); time.sleep(600)"
SPAWN = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', %r]); time.sleep(600)"


KEPT = "from turnout.gateway.functions.isolated.keeper import fork_kept\nfork_kept('/nowhere')\n"


def start(code: str, kept: str = KEPT) -> Process:
    """Start a keeper and the function's process; return once that reports that it uses the requested memory."""
    process = subprocess.Popen(
        [sys.executable, "-c", kept + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def groups() -> Iterator[list[Process]]:
    results: list[Process] = []
    yield results
    for process in results:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_memory_of_a_leader_is_its_peak(groups: list[Process]) -> None:
    code = "import time; held = b'x' * (80 << 20); del held; print('held', flush=True); time.sleep(600)"
    groups.append(start(code))
    assert function_kb(groups[0].pid) > 80 * 1024


def test_memory_of_an_ended_process_is_zero() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the end of the process")
    assert leader_kb(process.pid) == 0, "a zombie has none"
    process.wait()
    assert leader_kb(process.pid) == 0


@pytest.mark.parametrize("options", ["", ", start_new_session=True"])
def test_children_count_for_their_environment(groups: list[Process], options: str) -> None:
    groups.append(start((SPAWN % (HOLD % 80)).replace("])", f"]{options})")))
    groups.append(start(HOLD % 1))
    result = children_kb({process.pid for process in groups})
    assert result.keys() == {groups[0].pid}
    assert result[groups[0].pid] > 80 * 1024


def test_only_processes_over_their_limit_are_named_and_only_once(groups: list[Process]) -> None:
    groups += [start(HOLD % 80), start(HOLD % 1)]
    warden = Warden()
    for process in groups:
        warden.obey(b"watch %d %d" % (process.pid, 64 * 1024))
    over = warden.look()
    assert over.keys() == {groups[0].pid}
    assert over[groups[0].pid] > 80 * 1024
    assert warden.look() == {}
    warden.obey(b"forget %d" % groups[1].pid)
    warden.obey(b"forget %d" % groups[1].pid)
    assert warden.limits_kb == {}


def test_it_reports_before_it_kills_and_kills_remaining_processes_at_the_end(groups: list[Process]) -> None:
    commands, say = os.pipe()
    hear, reports = os.pipe()
    groups += [start(HOLD % 80), start(HOLD % 1)]
    thread = threading.Thread(target=run, args=(commands, reports))
    thread.start()
    try:
        os.write(say, b"watch %d %d\nwat" % (groups[1].pid, 10_000_000))
        os.write(say, b"ch %d %d\n" % (groups[0].pid, 64 * 1024))
        assert groups[0].wait(20) == -9
        assert int(os.read(hear, 100).split()[0]) == groups[0].pid
        assert groups[1].poll() is None
    finally:
        os.close(say)
        thread.join(20)
        for handle in (commands, hear, reports):
            os.close(handle)
    assert groups[1].wait(20) == -9


def test_a_guard_learns_what_its_warden_killed(groups: list[Process]) -> None:
    guard = ProcessGuard()
    try:
        assert guard.used_mb(1) == 0, "there is no warden yet"
        guard.remove(1)
        groups += [start(HOLD % 80), start(HOLD % 1)]
        guard.add(groups[1].pid, 5000)
        guard.add(groups[0].pid, 64)
        assert groups[0].wait(20) == -9
        assert guard.used_mb(groups[1].pid) == 0
        assert guard.used_mb(groups[0].pid) > 80
        guard.remove(groups[0].pid)
        assert guard.used_mb(groups[0].pid) == 0
    finally:
        guard.close()
    assert groups[1].wait(20) == -9


def test_a_dead_warden_is_replaced(groups: list[Process]) -> None:
    guard = ProcessGuard()
    try:
        groups.append(start(HOLD % 1))
        guard.add(groups[0].pid, 5000)
        first = guard._process
        assert first is not None
        guard.keep()
        assert guard._process is first
        first.kill()
        first.wait()
        guard.keep()
        assert guard._process is not first
        assert groups[0].poll() is None
    finally:
        guard.close()
    assert groups[0].wait(20) == -9, "the new one knows what the old one watched"
