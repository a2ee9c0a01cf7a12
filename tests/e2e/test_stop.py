"""How a server starts and stops."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.builders.running_server import Answer, Client, RunningServer, running_server, serve_command
from tests.builders.waiting import PATIENCE_S, wait_until
from tests.e2e.conftest import write_variants

ECHO = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    return write_variants(tmp_path, root)


def refuses(server: RunningServer) -> bool:
    try:
        server.connect().close()
    except ConnectionError:
        return True
    return False


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_before_the_server_stops(project: Path, number: signal.Signals) -> None:
    answers: list[Answer] = []
    with running_server(project) as server:
        caller = threading.Thread(target=lambda: answers.append(server.post("/models/waiting/inference", ECHO)))
        caller.start()
        wait_until((project / "started").exists, "the function to run")
        server.signal(number)
        wait_until(lambda: refuses(server), "the server to take no new connections")
        (project / "go-on").touch()
        caller.join(PATIENCE_S)
        assert server.wait() == 0
    (answer,) = answers
    assert answer.status == 200
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]
    assert " 200 " in server.stdout.read_text()
    assert "Traceback" not in server.stderr.read_text()


def test_a_transform_that_never_ends_does_not_block_the_stop(project: Path) -> None:
    text = (project / "models.yaml").read_text()
    slow = "{artifact: models/echo.onnx, transform: models/waiting.py, timeout_s: 29"
    (project / "models.yaml").write_text(text.replace(slow, slow.replace("29", "1")))
    with running_server(project) as server:
        assert server.post("/models/waiting/inference", ECHO).status == 504
        assert server.stop() == 0
        assert not (project / "ended").exists()
        assert "could not be stopped" in server.stderr.read_text()
        assert " 504 " in server.stdout.read_text()


IN_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes standard input the controlling terminal, as a terminal's window does for its first process.

The tests themselves may run under `nohup`.
"""


def test_a_server_in_the_foreground_ends_with_its_terminal(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    window, terminal = pty.openpty()
    command = (sys.executable, "-c", IN_TERMINAL, *serve_command(project / "models.yaml", "--workers", "1", port=port))
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    try:
        wait_until(lambda: is_open(port), "the server to listen")
        process.send_signal(signal.SIGHUP)
        client = Client(port)
        assert client.post("/models/echo/inference", ECHO).status == 200
        client.close()
        assert process.poll() is None
        os.close(window)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_an_idle_server_with_open_connections_stops_immediately(project: Path) -> None:
    with running_server(project) as server:
        connections = [server.connect() for _ in range(5)]
        assert server.post("/models/echo/inference", ECHO).status == 200
        assert server.stop() == 0
        for connection in connections:
            assert connection.recv(1) == b""
            connection.close()


def test_a_port_in_use_is_reported_in_one_sentence(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            serve_command(project / "models.yaml", "--preload", port=port),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    text = done.stderr.decode()
    assert str(port) in text
    assert "in use" in text
    assert "Traceback" not in text
    assert "loaded in" not in text  # reported before anything slow is done


def test_an_unknown_stage_is_reported_in_one_sentence(project: Path) -> None:
    done = subprocess.run(
        serve_command(project / "models.yaml", "--stage", "nowhere"),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert b"nowhere" in done.stderr
    assert b"Traceback" not in done.stderr


def test_keys_survive_a_restart(project: Path) -> None:
    with running_server(project) as server:
        first = server.api_key("keyed")
        assert server.stop() == 0
    with running_server(project) as server:
        assert server.api_key("keyed") == first
        assert server.post("/keyed/models/echo/inference", ECHO, x_api_key=first).status == 200


def test_the_log_is_json_on_request(project: Path) -> None:
    with running_server(project, "--log-format", "json") as server:
        assert server.post("/models/echo/inference", ECHO).status == 200
        assert server.post("/models/refused/inference", ECHO).status == 502
        with server.connect() as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            while connection.recv(4096):
                pass
        assert server.stop() == 0
    rows = [json.loads(line) for line in server.stdout.read_text().splitlines()]
    rows.sort(key=lambda entry: entry["status"])  # workers write shortly after they have answered, each separately
    assert [entry["status"] for entry in rows] == [200, 400, 502]
    assert rows[0]["function"] == "turnout-local_echo_v1"
    text = server.stderr.read_text()
    banner, errors = text.split("Note:")[0], [line for line in text.splitlines() if line.startswith("{")]
    assert "http://127.0.0.1" in banner
    assert any("NoSuchOperator" in json.loads(line)["message"] for line in errors)


def test_a_closed_log_reader_does_not_stop_the_server(project: Path) -> None:
    process = subprocess.Popen(
        serve_command(project / "models.yaml"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        port = 0
        while not port:
            line = process.stderr.readline()
            assert line, "the server did not start"
            if "http://127.0.0.1:" in line:
                port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
        client = Client(port)
        for _ in range(3):
            assert client.post("/models/echo/inference", ECHO).status == 200
        client.close()
        process.terminate()
        _, text = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert "Traceback" not in text
    finally:
        process.kill()
        process.wait()
