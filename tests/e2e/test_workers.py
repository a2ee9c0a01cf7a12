"""`turnout serve --workers`: real processes, their connections, what they share, how they end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.processes import children, connections_of, is_alive
from tests.builders.running_server import TURNOUT, Client, RunningServer, running_server, serve_command
from tests.builders.waiting import PATIENCE_S, wait_until

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: echo.onnx}
      v2: {artifact: echo.onnx}
  waiting:
    versions:
      v1: {artifact: echo.onnx, transform: waiting.py}
stages:
  dev: {serve: {"*": newest}}
  tight: {serve: {"*": newest}, throttle: {rate: 0.001, burst: 30}}
"""
WAITING = '''
"""Says which process runs it, then waits until the test lets it go on, or twenty seconds."""
import os
import time
from pathlib import Path

HERE = Path(PROJECT)


def preprocess(inputs):
    (HERE / f"started-{os.getpid()}").touch()
    deadline = time.monotonic() + 20
    while not (HERE / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return inputs
'''
ECHO = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
PATH = "/models/echo/v1/inference"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "waiting.py").write_text(WAITING.replace("PROJECT", repr(str(tmp_path))))
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.fixture
def server(project: Path) -> Iterator[RunningServer]:
    with running_server(project, "--workers", "2") as server:
        yield server


def workers(server: RunningServer) -> list[int]:
    return children(server.process.pid)


def spread(server: RunningServer) -> list[int]:
    return sorted(connections_of(pid, server.port) for pid in workers(server))


def started(project: Path) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in project.glob("started-*")}


def test_persistent_connections_are_spread_evenly(server: RunningServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(8)]
        for client in clients:
            assert client.post(PATH, ECHO).status == 200
        assert spread(server) == [4, 4]
        # Close three connections of one worker: the next three go to it. Connections are given in turn.
        for client in clients[:6:2]:
            client.close()
        wait_until(lambda: spread(server) == [1, 4], "three of one worker are gone")
        for client in clients[:6:2]:
            assert client.post(PATH, ECHO).status == 200
        assert spread(server) == [4, 4]


def test_a_throttle_applies_across_all_workers(server: RunningServer) -> None:
    statuses: list[int] = []

    def call() -> None:
        with server.client() as client:
            statuses.extend([client.post(f"/tight{PATH}", ECHO).status for _ in range(20)])

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert Counter(statuses) == {200: 30, 429: 130}


def test_a_change_is_seen_by_every_worker_before_its_call_returns(project: Path, root: Path) -> None:
    """Uses a server whose path `/serve/<version>` changes a stage in the worker that answers it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.builders.changing_server", str(project)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    try:
        assert process.stderr is not None
        port = int(process.stderr.readline())
        clients = [Client(port) for _ in range(4)]
        for client in clients:
            assert client.post("/dev/models/echo/inference", ECHO).headers["x-turnout-version"] == "v2"
        assert sorted(connections_of(pid, port) for pid in children(process.pid)) == [2, 2]
        for turn in range(40):
            version = ("v1", "v2")[turn % 2]
            assert clients[turn % 4].request("POST", f"/serve/{version}").status == 200
            seen = {client.post("/dev/models/echo/inference", ECHO).headers["x-turnout-version"] for client in clients}
            assert seen == {version}
        counted = clients[0].request("GET", "/counters").json()
        assert counted == {"dev turnout-local_echo_v1 False": 80, "dev turnout-local_echo_v2 False": 84}
        for client in clients:
            client.close()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_a_killed_worker_loses_only_its_own_requests_and_is_restarted(server: RunningServer) -> None:
    stop = threading.Event()
    failed: Counter[int] = Counter()
    statuses: Counter[int] = Counter()
    answered: Counter[int] = Counter()

    def call(number: int) -> None:
        with server.client() as client:
            while not stop.is_set():
                try:
                    statuses[client.post(PATH, ECHO).status] += 1
                    answered[number] += 1
                except (OSError, HTTPException):
                    failed[number] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for caller in callers:
        caller.start()
    try:
        wait_until(lambda: all(answered[number] > 5 for number in range(6)), "everybody is served")
        assert spread(server) == [3, 3]
        before = workers(server)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: sum(failed.values()) >= 3, "the killed one's clients notice")
        counts = Counter(answered)
        wait_until(
            lambda: all(answered[number] > counts[number] + 5 for number in range(6)), "everybody is served again"
        )
        wait_until(lambda: len(workers(server)) == 2, "two workers")
        assert before[1] in workers(server)
    finally:
        stop.set()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert sorted(failed.values()) == [1, 1, 1]
    assert set(statuses) == {200}
    killed = "killed by SIGKILL; it is started again at once"
    wait_until(lambda: killed in server.stderr.read_text(), "the killed worker in the log")
    new = next(pid for pid in workers(server) if pid not in before)
    with ExitStack() as stack:

        def is_given_one() -> bool:
            assert stack.enter_context(server.client()).post(PATH, ECHO).status == 200
            return connections_of(new, server.port) > 0

        wait_until(is_given_one, "the new one is given connections")
    assert server.stop() == 0


def test_a_worker_that_dies_repeatedly_is_restarted_later_each_time(server: RunningServer) -> None:
    survivor = workers(server)[0]
    killed = {survivor}
    for times in range(3):
        wait_until(lambda: bool(set(workers(server)) - killed), "the worker is back")
        pid = next(iter(set(workers(server)) - killed))
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda n=times + 1: server.stderr.read_text().count("killed by SIGKILL") == n, "a line about its end"
        )
        assert server.post(PATH, ECHO).status == 200  # the other worker answers
    reported = re.findall(r"it is started again (.*)", server.stderr.read_text())
    assert reported[0] == "at once"
    assert [float(text.split()[1]) for text in reported[1:]] == pytest.approx([0.25, 0.5], rel=0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_in_every_worker_are_answered_before_the_end(
    server: RunningServer, project: Path, number: signal.Signals
) -> None:
    statuses: list[int] = []
    callers = [
        threading.Thread(target=lambda: statuses.append(server.post("/models/waiting/v1/inference", ECHO).status))
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(started(project)) == 2, "both workers run a request")
    assert started(project) == set(workers(server))
    for pid in (server.process.pid, *workers(server)):  # as a terminal does: send the signal to the whole group
        os.kill(pid, number)

    def refuses() -> bool:
        try:
            server.connect().close()
        except ConnectionError:
            return True
        return False

    wait_until(refuses, "it takes no new connections")
    assert all(map(is_alive, started(project)))
    (project / "go-on").touch()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert server.wait() == 0
    assert statuses == [200, 200]
    assert "Traceback" not in server.stderr.read_text()


def test_a_second_signal_ends_everything_immediately(server: RunningServer, project: Path) -> None:
    body = b'{"inputs":{"x":[[1,2,3,4]]}}'
    head = f"POST /models/waiting/v1/inference HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        wait_until(lambda: bool(started(project)), "a request runs")
        pids = workers(server)
        server.signal()
        wait_until(lambda: len([pid for pid in pids if is_alive(pid)]) == 1, "the idle worker has ended")
        server.signal()
        assert server.wait() == -signal.SIGTERM
        wait_until(lambda: not any(map(is_alive, pids)), "no worker is left")


def test_killing_the_parent_ends_its_workers(server: RunningServer) -> None:
    pids = workers(server)
    assert len(pids) == 2
    with server.client() as client:
        assert client.post(PATH, ECHO).status == 200
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(is_alive, pids)), "no worker is left")


def test_the_port_stays_open_without_any_worker(server: RunningServer) -> None:
    pids = workers(server)
    server.signal(signal.SIGSTOP)  # it notices their end and a connection at the same time
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)), "no worker is left")
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.signal(signal.SIGCONT)
        assert connection.recv(100).startswith(b"HTTP/1.1 403 ")


def test_everything_is_printed_once(project: Path) -> None:
    shutil.rmtree(project / ".turnout", ignore_errors=True)
    with running_server(project, "--workers", "3", "--preload") as server:
        assert len(workers(server)) == 3
        assert server.stop() == 0
        text = server.stderr.read_text()
    assert text.count("http://127.0.0.1") == 3  # the address, the console, and the command to try
    assert len(re.findall(r"\[\d/3\]", text)) == 3


def test_one_worker_is_a_single_process(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        assert server.post(PATH, ECHO).status == 200
        assert len(workers(server)) == 1


def test_lines_of_many_workers_are_complete(server: RunningServer) -> None:
    def call() -> None:
        with server.client() as client:
            for _ in range(50):
                client.request("GET", "/" + "x" * 3000)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    text = server.await_log(lambda text: text.count("\n") >= 200)
    line = re.compile(
        r"[\dT:Z-]+ 127\.0\.0\.1 GET /x{3000} 403 [\d.]+ms 42B function=- canary=false id=[0-9a-f-]{36} error=\w+"
    )
    assert all(line.fullmatch(entry) for entry in text.splitlines())
    assert text.count("\n") == 200


def test_a_silent_client_takes_only_its_own_slot(server: RunningServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    wait_until(lambda: spread(server) == [2, 2], "they are spread")
    assert server.post(PATH, ECHO).status == 200
    for connection in silent:
        connection.close()
    wait_until(lambda: spread(server) == [0, 0], "they are gone")


def test_with_few_descriptors_crowds_get_503_and_the_server_recovers(project: Path) -> None:
    """Under `ulimit -n 64`: two hundred idle connections, twice."""
    limited = ("bash", "-c", 'ulimit -n 64 && exec "$@"', "limited", *TURNOUT)

    def ask() -> int:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as asking:
            asking.sendall(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            return int(asking.makefile("rb").readline().split(b" ")[1])

    with running_server(project, "--workers", "2", command=limited) as server:
        wait_until(lambda: "limit of open files is 64" in server.stderr.read_text(), "the limit in the log")
        for _ in range(2):
            idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
            wait_until(lambda: ask() == 503, "the crowd is in the way")
            for connection in idle:
                connection.close()
            wait_until(lambda: spread(server) == [0, 0], "they are gone")
            # Some of the crowd may not have been accepted yet.
            wait_until(lambda: [ask() for _ in range(5)] == [200] * 5, "the server recovers")


def test_too_few_descriptors_are_reported_at_startup(project: Path) -> None:
    command = ("bash", "-c", 'ulimit -n 32 && exec "$@"', "limited", *TURNOUT)
    process = subprocess.run(
        serve_command(project / "models.yaml", command=command),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert process.returncode != 0
    assert "ulimit -n" in process.stderr
    assert "Traceback" not in process.stderr
