"""`turnout serve` in its own process, on a free port of 127.0.0.1, for tests that use sockets."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.builders.waiting import PATIENCE_S, wait_until

"""How long a start, an answer or a stop may take on a busy machine before the test gives up."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """One keep-alive connection, which is opened again if the server has closed it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            answer = response.read()
        except BaseException:
            self.close()
            raise
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, answer)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """POST bytes unchanged, anything else as JSON; `x_api_key=` is the header `x-api-key`."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return self.request("POST", path, content, named)

    def close(self) -> None:
        self._connection.close()


@dataclass
class RunningServer:
    """A running server; its output goes to files."""

    process: subprocess.Popen[bytes]
    port: int
    project: Path
    stdout: Path
    stderr: Path

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.port)
        try:
            yield client
        finally:
            client.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with self.client() as client:
            return client.request(method, path, body, headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        with self.client() as client:
            return client.post(path, body, **headers)

    def connect(self) -> socket.socket:
        """Open a bare connection, for what HTTP clients cannot send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def api_key(self, stage: str) -> str:
        keys = orjson.loads((self.project / ".turnout" / "api_keys.json").read_bytes())
        return str(keys[stage])

    def await_log(self, condition: Callable[[str], bool]) -> str:
        """Return the access log once it meets the test's condition: lines are written shortly after their answers."""
        wait_until(
            lambda: condition(self.stdout.read_text()),
            lambda: f"lines of the access log, which is:\n{self.stdout.read_text()[-2000:]}",
        )
        return self.stdout.read_text()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the exit code."""
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.signal()
        return self.wait()


TURNOUT = (sys.executable, "-m", "turnout.cli")


def serve_command(manifest: Path, *arguments: str, port: int = 0, command: Sequence[str] = TURNOUT) -> Sequence[str]:
    return (*command, "serve", "--manifest", str(manifest), "--port", str(port), *arguments)


@contextlib.contextmanager
def running_server(
    project: Path, *arguments: str, command: Sequence[str] = TURNOUT, cwd: Path | None = None
) -> Iterator[RunningServer]:
    """Serve the project's models.yaml. At the end the process is stopped in any case."""
    output = project / ".output"
    output.mkdir(exist_ok=True)
    stdout, stderr = output / "stdout", output / "stderr"
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "error"}
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            serve_command(project / "models.yaml", *arguments, command=command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=cwd,
        )
    try:
        port = await_port(process, stderr)
        yield RunningServer(process, port, project, stdout, stderr)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def await_port(process: subprocess.Popen[bytes], stderr: Path) -> int:
    """Return the port from the banner, which the server prints as a whole once it listens.

    Reads it once more after the process has ended.
    """
    pattern = re.compile(rb" serves .* at http://127\.0\.0\.1:(\d+)\n")
    wait_until(
        lambda: process.poll() is not None or pattern.search(stderr.read_bytes()),
        lambda: f"the server to listen:\n{stderr.read_text()}",
    )
    match = pattern.search(stderr.read_bytes())
    assert match is not None, f"the server did not start:\n{stderr.read_text()}"
    return int(match.group(1))
