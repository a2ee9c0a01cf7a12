"""Readers of a server's output and capture that do not read."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO

import pytest

from tests.builders.graphs import write_identity
from tests.builders.running_server import Client, serve_command
from tests.builders.waiting import wait_until

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: echo.onnx}
      loud: {artifact: echo.onnx, transform: loud.py}
stages:
  dev: {serve: {echo: v1}}
"""
LOUD = """
import os, sys

def preprocess(inputs):
    print("printed " + "x" * 50_000)
    os.write(2, b"written " + b"x" * 50_000 + b"\\n")
    return inputs
"""
ECHO = {"inputs": {"x": [[1, 2, 3, 4]]}}
LARGE = b'{"parameters": {"note": "' + b"x" * 3_000_000 + b'"}, "inputs": {"x": [[1, 2, 3, 4]]}}'
STREAMS = ("stdout", "stderr", "capture")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "loud.py").write_text(LOUD)
    (tmp_path / "models.yaml").write_text(MANIFEST)
    os.mkfifo(tmp_path / "captured")
    return tmp_path


def start(project: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        serve_command(project / "models.yaml", "--workers", "2", *arguments, port=port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )

    def listens() -> bool:
        assert process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionError:
            return False
        return True

    wait_until(listens, "it listens")
    return process, port


def dropped(client: Client) -> dict[str, int]:
    result: dict[str, int] = client.request("GET", "/turnout/metrics?stage=dev").json()["dropped_lines"]
    return result


def flood(client: Client) -> dict[str, int]:
    """Send requests until lines of every stream are dropped; each request is answered."""
    for _ in range(60):
        for _ in range(5):
            assert client.post("/models/echo/loud/inference", ECHO).status == 200
            assert client.request("GET", f"/{'x' * 7000}").status == 403
        client.post("/models/echo/v1/inference", LARGE)
        if all(dropped(client).values()):
            break
    return dropped(client)


def test_unread_streams_block_neither_requests_nor_the_stop(project: Path) -> None:
    process, port = start(project, "--capture", str(project / "captured"))
    client = Client(port)
    try:
        counts = flood(client)
        assert set(counts) == set(STREAMS)
        assert all(counts.values())
        assert client.request("GET", "/health/live").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        client.close()
        process.kill()
        process.communicate()


def test_a_reader_that_resumes_gets_complete_lines_and_one_report(project: Path) -> None:
    process, port = start(project)
    client = Client(port)
    readers: list[threading.Thread] = []
    read: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def drain(stream: IO[bytes], lines: list[bytes]) -> None:
        lines.extend(stream)

    try:
        while not dropped(client)["stdout"]:
            assert client.request("GET", f"/{'x' * 7000}").status == 403
        assert process.stdout is not None
        assert process.stderr is not None
        for stream, lines in ((process.stdout, read["stdout"]), (process.stderr, read["stderr"])):
            readers.append(threading.Thread(target=drain, args=(stream, lines), daemon=True))
            readers[-1].start()
        report = re.compile(rb"WARNING turnout\.output: standard output: [\d,]+ lines? w\w+ dropped while nothing")
        wait_until(lambda: any(map(report.match, read["stderr"])), "it is reported")
        assert client.post("/models/echo/v1/inference", ECHO).status == 200
        wait_until(lambda: b"/models/echo/v1/inference 200" in b"".join(read["stdout"][-3:]), "lines pass again")
        assert len([line for line in read["stderr"] if report.match(line)]) == 1
        assert all(b"Z 127.0.0.1 " in line[:40] and line.endswith(b"\n") for line in read["stdout"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        client.close()
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
