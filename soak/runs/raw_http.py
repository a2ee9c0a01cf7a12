"""Raw HTTP: every case gets its statuses, whole, byte by byte and split anywhere, while other requests are answered."""

from __future__ import annotations

import asyncio
import random
import time

from soak.cases import read_values
from soak.http_client import Client, HangError, LostError
from soak.project import write_project
from soak.raw_cases import CASES, RawCase
from soak.result import Findings, Result, Settings
from soak.server import serving

MOST_PIECES = 3000
"""A longer request is sent byte by byte up to this length, and the rest at once."""


def run(settings: Settings) -> Result:
    """Send every case whole and byte by byte, then split at random, for the run's time."""
    project = write_project(settings.folder / "project")
    with serving(settings.command, project, "--workers", "2", "--preload") as server:
        findings = Findings()
        started = time.monotonic()
        sent = asyncio.run(attack(server.port, settings.random(), started + settings.seconds, findings))
        seconds = time.monotonic() - started
        for line in server.alarms():
            findings.add("the server printed an alarm", line[:300])
    return Result(
        "raw-http", sent, seconds, f"{len(CASES)} cases, {sent / len(CASES):.0f} times each", findings.lines()
    )


async def attack(port: int, source: random.Random, deadline: float, findings: Findings) -> int:
    """Send the cases, each at least whole and byte by byte; return how many were sent."""
    sent = 0
    while sent < 2 * len(CASES) or time.monotonic() < deadline:
        turn = sent // len(CASES)
        for name, case in CASES.items():
            if turn >= 2 and time.monotonic() >= deadline:
                break
            pieces = cut(case.data, source, turn)
            await _send(port, name, case, pieces, findings)
            sent += 1
    return sent


def cut(data: bytes, source: random.Random, turn: int) -> list[bytes]:
    """Return the bytes in pieces: first whole, then single bytes, then split at random places."""
    if turn == 0:
        return [data]
    if turn == 1:
        return [data[at : at + 1] for at in range(min(len(data), MOST_PIECES))] + [data[MOST_PIECES:]]
    ends = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(1, 6)))
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


async def _send(port: int, name: str, case: RawCase, pieces: list[bytes], findings: Findings) -> None:
    client = Client(port)
    try:
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0)
    except LostError:
        pass  # rejected before all of it was sent
    try:
        answers = await client.finish(head_only=case.data.startswith(b"HEAD"))
    except (HangError, ValueError) as error:
        findings.add(f"{name}: {error}")
        return
    statuses = tuple(answer.status for answer in answers)
    if statuses != tuple(case.statuses) and not (case.may_be_reset and not statuses):
        findings.add(f"{name}: answered {statuses}, expected {tuple(case.statuses)}", f"in {len(pieces)} pieces")
    if statuses == (200,) and case.data.startswith(b"POST") and read_values(answers[0]) != [1, 2, 3, 4]:
        findings.add(f"{name}: the body was not the one that was sent", repr(answers[0].body[:200]))
