"""Many large bodies at once, with and without a key: the server's memory stays within its bound."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

import orjson

from soak.http_client import JSON, Client, HangError, LostError, render
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import Server, serving

CONNECTIONS = 150
CONNECTIONS_IN_A_SHORT_RUN = 60
"""Connections in runs of less than ten seconds."""

BODY_BYTES = 9_000_000
WORKERS = 2
BODIES_MB = 256.0
"""Bound for bodies in all workers together (`Limits.max_bodies_bytes`)."""

SPARE_MB = 150.0
"""Allowance for one worker besides the bodies: events and answers in progress, and memory that the allocator keeps."""

BOUND_MB = BODIES_MB + WORKERS * SPARE_MB
HELD_S = 30.0
"""The longest time that clients hold back their last byte. The server's limit for a body is 60 s."""

PATIENCE_S = 150.0

KEYLESS_MB = 40.0
"""Bound without a key, when no part of a body is kept."""


def run(settings: Settings) -> Result:
    """Send all bodies without their last byte, then the last bytes; then the same to a stage that requires a key."""
    project = write_project(settings.folder / "project")
    findings = Findings()
    started = time.monotonic()
    with serving(settings.command, project, "--workers", str(WORKERS), "--preload", "--no-access-log") as server:
        asyncio.run(_ask_health(server))
        before = server.memory_mb()
        connections = CONNECTIONS if settings.seconds >= 10 else CONNECTIONS_IN_A_SHORT_RUN
        attack = Bodies(server, connections, findings)
        keyless = asyncio.run(attack.send("/keyed/models/echo/inference"))
        keyless_mb = attack.peak_mb - before
        statuses = asyncio.run(attack.send("/dev/models/echo/inference"))
        peak_mb = attack.peak_mb - before
        asyncio.run(_ask_health(server))
        for line in server.alarms():
            findings.add("the server printed an alarm", line[:300])
    if peak_mb > BOUND_MB:
        findings.add(f"memory grew by {peak_mb:.0f} MB, the bound is {BOUND_MB:.0f} MB")
    if keyless_mb > KEYLESS_MB:
        findings.add(f"bodies without a key made memory grow by {keyless_mb:.0f} MB, the bound is {KEYLESS_MB:.0f} MB")
    if set(keyless) != {403}:
        findings.add("without a key not all are refused with 403", str(dict(keyless)))
    if set(statuses) - {408, 413, 503}:
        findings.add("bodies of 9 MB: other statuses than 408, 413 and 503", str(dict(statuses)))
    seen = (
        f"{connections} bodies of {BODY_BYTES // 1_000_000} MB: peak {peak_mb:+.0f} MB (bound {BOUND_MB:.0f}), "
        f"without a key {keyless_mb:+.0f} MB; {statuses[503]} refused with 503"
    )
    return Result("bodies", 2 * connections, time.monotonic() - started, seen, findings.lines())


class Bodies:
    """Sends bodies from many connections and watches the server's memory.

    Attributes:
        peak_mb: the highest memory that was measured.
    """

    def __init__(self, server: Server, connections: int, findings: Findings) -> None:
        self._server = server
        self._connections = connections
        self._findings = findings
        self._last_bytes = asyncio.Event()  # made again for each loop
        self.peak_mb = 0.0

    async def send(self, target: str) -> Counter[int]:
        """Return the statuses of all connections' answers."""
        watching = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        held = asyncio.Semaphore(0)
        self._last_bytes = asyncio.Event()
        sending = [asyncio.create_task(self._send(target, held)) for _ in range(self._connections)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HELD_S):
                for _ in range(self._connections):
                    await held.acquire()
        self._last_bytes.set()
        statuses = await asyncio.gather(*sending)
        watching.cancel()
        return Counter(statuses)

    async def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, await asyncio.to_thread(self._server.memory_mb))
            await asyncio.sleep(0.1)

    async def _send(self, target: str, held: asyncio.Semaphore) -> int:
        """Send all but the last byte, and that once all others are as far; the answer may arrive at any time."""
        request = render("POST", target, (JSON,), b"[" + b"1," * (BODY_BYTES // 2 - 1) + b"1")
        client = Client(self._server.port, PATIENCE_S)
        await client.open()
        reading = asyncio.create_task(client.read())
        with contextlib.suppress(LostError):  # rejected before everything was sent: the answer says why
            await client.send(request[:-1])
            held.release()
            await self._last_bytes.wait()
            await client.send(request[-1:])
        held.release()
        try:
            answer = await reading
        except (LostError, HangError) as error:
            self._findings.add("an unanswered body", str(error))
            return 0
        finally:
            client.close()
        if answer.status == 503 and "retry-after" not in answer.fields:
            self._findings.add("a 503 without Retry-After")
        return answer.status


async def _ask_health(server: Server) -> None:
    client = Client(server.port)
    (answer,) = await client.ask(
        render("POST", "/models/echo/inference", (JSON,), orjson.dumps({"instances": [[1, 2, 3, 4]]}))
    )
    client.close()
    assert answer.status == 200, answer
