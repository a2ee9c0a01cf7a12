"""Asynchronous requests while workers are killed every second: each accepted one gets one correct answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from soak.http_client import Answer, Client, HangError, LostError
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import HOST, PATIENCE_S, Server, serving

CLIENTS = 8
KILL_S = 1.0
ROWS = (1, 1, 1, 1, 100, 3000)
"""Rows of four numbers: most requests are small, some are stored in files."""

LEAST_KILLED, LEAST_ACCEPTED = 2, 30
"""Minimums, also for a very short run."""

ENDED = {"done", "failed", "expired", "canceled"}


@dataclass(slots=True)
class Accepted:
    """Accepted requests: identifier -> first number and rows of the body."""

    bodies: dict[str, tuple[int, int]] = field(default_factory=dict)
    sent: int = 0
    is_stopping: bool = False


def run(settings: Settings) -> Result:
    """Send requests for half of the run's time and kill workers; then wait until all have ended."""
    findings, accepted = Findings(), Accepted()
    started = time.monotonic()
    project = write_project(settings.folder / "project")
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace("  dev:\n", "  dev:\n    async: {max_attempts: 10}\n"))
    with serving(settings.command, project, "--workers", "2", "--no-access-log") as server:
        killed = asyncio.run(_attack(server, settings, accepted, findings))
        attempts = asyncio.run(_check(server, accepted, findings))
    seen = (
        f"{len(accepted.bodies):,} accepted while {killed} workers were killed; {attempts:,} runs answered all of them"
    )
    return Result("asynchronous", accepted.sent, time.monotonic() - started, seen, findings.lines())


async def _attack(server: Server, settings: Settings, accepted: Accepted, findings: Findings) -> int:
    deadline = time.monotonic() + settings.seconds / 2
    numbers = iter(range(1 << 40))
    clients = [
        asyncio.create_task(_send(server.port, settings.random(number), numbers, accepted, findings))
        for number in range(CLIENTS)
    ]
    killed, choose = 0, settings.random(CLIENTS).choice
    while time.monotonic() < deadline or killed < LEAST_KILLED or len(accepted.bodies) < LEAST_ACCEPTED:
        await asyncio.sleep(KILL_S)
        if workers := server.workers():
            os.kill(choose(workers), signal.SIGKILL)
            killed += 1
    accepted.is_stopping = True
    await asyncio.gather(*clients)
    return killed


async def _send(
    port: int, source: random.Random, numbers: Iterator[int], accepted: Accepted, findings: Findings
) -> None:
    """Send requests under their own identifiers, each again until an answer arrives."""
    client = Client(port)
    while not accepted.is_stopping:
        number, rows = next(numbers), source.choice(ROWS)
        identifier = f"r{number}"
        while True:
            accepted.sent += 1
            answer = await _ask(client, "PUT", f"/requests/{identifier}?model=echo&version=v1", make_body(number, rows))
            if answer is not None:
                break
        if answer.status not in {200, 202}:
            findings.add(f"status {answer.status} instead of 202", repr(answer.body[:200]))
        else:
            accepted.bodies[identifier] = (number, rows)
    client.close()


async def _check(server: Server, accepted: Accepted, findings: Findings) -> int:
    """Wait until every request has ended, and read each answer twice. Return the number of runs."""
    client, attempts = Client(server.port), 0
    deadline = time.monotonic() + PATIENCE_S + 0.5 * len(accepted.bodies)
    for identifier, (number, rows) in accepted.bodies.items():
        described = await _describe(client, identifier)
        while described.get("state") not in ENDED and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            described = await _describe(client, identifier)
        attempts += int(str(described.get("attempts", 0)))
        if described.get("state") != "done":
            findings.add("an accepted request is not done", json.dumps(described)[:300])
            continue
        for _ in range(2):
            answer = await _ask(client, "GET", f"/requests/{identifier}/answer")
            if answer is None or json.loads(answer.body).get("outputs") != {"y": make_rows(number, rows)}:
                findings.add("a wrong answer", f"{identifier}: {answer and answer.body[:200]!r}")
    client.close()
    return attempts


async def _describe(client: Client, identifier: str) -> dict[str, object]:
    answer = await _ask(client, "GET", f"/requests/{identifier}")
    described: dict[str, object] = {} if answer is None else json.loads(answer.body)
    return described


async def _ask(client: Client, method: str, path: str, body: bytes = b"") -> Answer | None:
    """Return the answer; None if the connection was lost because its worker was killed."""
    fields = f"Host: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n"
    try:
        (answer,) = await client.ask(head.encode() + body)
    except (LostError, HangError):
        await asyncio.sleep(0.05)
        return None
    return answer


def make_rows(number: int, rows: int) -> list[list[float]]:
    """Return rows that no other request has."""
    return [[float(number % 1_000_000), float(entry), 2.0, 3.0] for entry in range(rows)]


def make_body(number: int, rows: int) -> bytes:
    """The request's body."""
    return json.dumps({"inputs": {"x": make_rows(number, rows)}}).encode()
