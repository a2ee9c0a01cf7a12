"""`turnout canary` on a running server's project, and traffic that continues in the meantime."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tests.builders.running_server import RunningServer
from tests.builders.waiting import PATIENCE_S
from turnout.cli.__main__ import main

Traffic = AbstractContextManager[list[tuple[int, str, str]]]
"""Status, version and share (`true` for the canary's) of each answer so far."""


class Commands:
    """`turnout canary` on one server's project."""

    def __init__(self, server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.endpoint = ("--url", f"http://127.0.0.1:{server.port}")
        self.now = ("--now", *self.endpoint)
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run one command; return its output, stdout and stderr together."""
        assert main(["canary", *arguments, "-m", str(self.server.project)]) == code, self._capsys.readouterr()
        out, err = self._capsys.readouterr()
        return out + err

    def status(self, stage: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self("status", stage, *self.endpoint, "--json"))
        return body

    def history(self, stage: str) -> list[dict[str, Any]]:
        body: list[dict[str, Any]] = json.loads(self("history", stage, "--json"))["rollouts"]
        return body

    def text(self) -> str:
        return (self.server.project / "models.yaml").read_text()


@contextmanager
def traffic(
    server: RunningServer, path: str, bodies: list[Any], pause_s: float = 0.0
) -> Iterator[list[tuple[int, str, str]]]:
    """Send requests one after the other during the block.

    Args:
        server: the server that gets the requests.
        path: path of the requests.
        bodies: bodies that are sent in turn.
        pause_s: pause between two requests.
    """
    answers: list[tuple[int, str, str]] = []
    is_over = threading.Event()

    def send() -> None:
        with server.client() as client:
            while not is_over.is_set():
                answer = client.post(path, bodies[len(answers) % len(bodies)])
                headers = answer.headers
                answers.append(
                    (answer.status, headers.get("x-turnout-version", ""), headers.get("x-turnout-canary", ""))
                )
                is_over.wait(pause_s)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        thread.join(PATIENCE_S)
