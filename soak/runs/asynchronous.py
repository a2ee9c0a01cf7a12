"""Asynchronous requests while workers are killed every second: each accepted one gets one correct answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from soak.http_client import Answer, Client, HangError, LostError
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import HOST, PATIENCE_S, Server, serving

CLIENTS = 8
KILL_S = 1.0
WORKERS = 12
"""So many that each lives for more than 10 s although one is killed each second. The supervisor delays the restart of
those that live shorter, by up to 30 s (turnout/gateway/workers/restarts.py).
"""

SIZES = ((1, 600), (100, 200), (3_000, 190), (60_000, 8), (300_000, 2))
"""Rows of four numbers, and how many requests of a thousand have them.

Small bodies are stored in the database, those of 3,000 rows in files. Those of 60,000 rows are uploaded first. The
largest, 6 MB, are too large for an event, and their answers come from a signed address.
"""

UPLOADED_ROWS = 60_000

LEAST_KILLED, LEAST_ACCEPTED = 2, 30
"""Minimums, also for a very short run."""

ENDED = {"done", "failed", "expired", "canceled"}


@dataclass(slots=True)
class Accepted:
    """Accepted requests.

    Args:
        bodies: identifier -> first number and rows of the body.
        answers: identifier -> time of the end and digest of the answer, read while workers were killed.
        sent: number of sent requests, each retry included.
        wanted: how many to accept; 0 for no limit.
    """

    bodies: dict[str, tuple[int, int]] = field(default_factory=dict)
    answers: dict[str, tuple[object, str]] = field(default_factory=dict)
    sent: int = 0
    wanted: int = 0
    is_stopping: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether as many are accepted as are wanted."""
        return len(self.bodies) >= max(self.wanted, LEAST_ACCEPTED)


def run(settings: Settings) -> Result:
    """Send requests for half of the run's time, or as many as asked; kill workers until all have ended."""
    findings, accepted = Findings(), Accepted(wanted=settings.requests)
    started = time.monotonic()
    project = write_project(settings.folder / "project")
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace("  dev:\n", "  dev:\n    async: {max_attempts: 10}\n"))
    with serving(settings.command, project, "--workers", str(WORKERS), "--no-access-log") as server:
        killed = asyncio.run(_attack(server, settings, accepted, findings))
        attempts = asyncio.run(_check(server, accepted, findings))
    seen = (
        f"{len(accepted.bodies):,} accepted while {killed} workers were killed; {attempts:,} runs answered all of them"
    )
    return Result("asynchronous", accepted.sent, time.monotonic() - started, seen, findings.lines())


async def _attack(server: Server, settings: Settings, accepted: Accepted, findings: Findings) -> int:
    """Send requests, and kill a worker each second until all have ended. Return the number of killed workers."""
    deadline = time.monotonic() + settings.seconds / 2
    numbers = iter(range(1 << 40))
    clients = [
        asyncio.create_task(_send(server.port, settings.random(number), numbers, accepted, findings))
        for number in range(CLIENTS)
    ]
    reading = asyncio.create_task(_read_early(server.port, accepted))
    killed, since = 0, dict[int, float]()

    async def kill() -> None:
        """Kill the oldest worker."""
        nonlocal killed
        await asyncio.sleep(KILL_S)
        if workers := server.workers():
            oldest = min(workers, key=lambda pid: since.setdefault(pid, time.monotonic()))
            os.kill(oldest, signal.SIGKILL)
            killed += 1

    while not accepted.is_complete or (not accepted.wanted and time.monotonic() < deadline) or killed < LEAST_KILLED:
        await kill()
    accepted.is_stopping = True
    await asyncio.gather(*clients)
    waiting = asyncio.create_task(_wait(server.port, accepted))
    while not waiting.done():
        await kill()
    await waiting
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return killed


async def _send(
    port: int, source: random.Random, numbers: Iterator[int], accepted: Accepted, findings: Findings
) -> None:
    """Send requests under their own identifiers, each again until an answer arrives."""
    client, all_rows, weights = Client(port), *zip(*SIZES, strict=True)
    while not accepted.is_stopping and not (accepted.wanted and accepted.is_complete):
        number, (rows,) = next(numbers), source.choices(all_rows, weights)
        identifier = f"r{number}"
        answer = await _put(client, f"/requests/{identifier}?model=echo&version=v1", make_body(number, rows), accepted)
        if answer.status not in {200, 202}:
            findings.add(f"status {answer.status} instead of 202", repr(answer.body[:200]))
        else:
            accepted.bodies[identifier] = (number, rows)
    client.close()


async def _put(client: Client, path: str, body: bytes, accepted: Accepted) -> Answer:
    """Send a request until an answer arrives; upload a large body first."""
    upload = ""
    if len(body) > UPLOADED_ROWS * 10:
        announced = json.dumps({"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})
        described = json.loads((await _insist(client, "POST", "/uploads", announced.encode())).body)
        upload = f"x-turnout-upload: {described['id']}\r\n"
        for part in described["parts"]:
            address = urlsplit(part["address"])
            piece = body[part["first_byte"] : part["first_byte"] + part["bytes"]]
            await _insist(client, "PUT", f"{address.path}?{address.query}", piece)
        body = b""
    answer = None
    while answer is None:
        accepted.sent += 1
        answer = await _ask(client, "PUT", path, body, upload)
    return answer


async def _read_early(port: int, accepted: Accepted) -> None:
    """Read answers as soon as they exist; `_check` reads each once more."""
    client, read = Client(port), 0
    try:
        while True:
            identifiers = list(accepted.bodies)
            for identifier in identifiers[read:]:
                described = await _describe(client, identifier)
                if described.get("state") == "done":
                    digest = hashlib.sha256(await _answer(client, identifier)).hexdigest()
                    accepted.answers[identifier] = (described["ended"], digest)
            read = len(identifiers)
            await asyncio.sleep(0.05)
    finally:
        client.close()


async def _wait(port: int, accepted: Accepted) -> None:
    """Wait until every request has ended."""
    client = Client(port)
    deadline = time.monotonic() + PATIENCE_S + 0.5 * len(accepted.bodies)
    for identifier in accepted.bodies:
        while True:
            is_over = time.monotonic() > deadline
            if is_over or (await _describe(client, identifier)).get("state") in ENDED:
                break
            await asyncio.sleep(0.05)
    client.close()


async def _check(server: Server, accepted: Accepted, findings: Findings) -> int:
    """Check each request's state and read its answer. Return the number of runs."""
    client, attempts = Client(server.port), 0
    for identifier, (number, rows) in accepted.bodies.items():
        described = json.loads((await _insist(client, "GET", f"/requests/{identifier}")).body)
        attempts += int(str(described.get("attempts", 0)))
        if described.get("state") != "done":
            findings.add("an accepted request is not done", json.dumps(described)[:300])
            continue
        body = await _answer(client, identifier)
        if json.loads(body).get("outputs") != {"y": make_rows(number, rows)}:
            findings.add("a wrong answer", f"{identifier}: {body[:200]!r}")
        early = accepted.answers.get(identifier)
        if early is not None and early != (described["ended"], hashlib.sha256(body).hexdigest()):
            findings.add("an answer changed", f"{identifier}: first {early}, then {json.dumps(described)[:300]}")
    client.close()
    return attempts


async def _answer(client: Client, identifier: str) -> bytes:
    """Return the body of an answer."""
    answer = await _insist(client, "GET", f"/requests/{identifier}/answer")
    if answer.status == 303:
        address = urlsplit(answer.fields["location"])
        answer = await _insist(client, "GET", f"{address.path}?{address.query}")
    return answer.body


async def _describe(client: Client, identifier: str) -> dict[str, object]:
    answer = await _ask(client, "GET", f"/requests/{identifier}")
    described: dict[str, object] = {} if answer is None else json.loads(answer.body)
    return described


async def _insist(client: Client, method: str, path: str, body: bytes = b"") -> Answer:
    """Send a request that may be repeated until an answer arrives."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = await _ask(client, method, path, body)
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise HangError(f"{method} {path}: no answer within {PATIENCE_S:.0f} s, however often it is sent")


async def _ask(client: Client, method: str, path: str, body: bytes = b"", more: str = "") -> Answer | None:
    """Return the answer; None if the connection was lost because its worker was killed."""
    fields = f"Host: {HOST}\r\nContent-Type: application/json\r\n{more}Content-Length: {len(body)}"
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
