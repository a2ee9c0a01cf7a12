"""Clients that disconnect while their calls wait: the calls are dropped, logged as 499, and delay no other call."""

from __future__ import annotations

import asyncio
import time

from soak.http_client import Client, HangError, LostError, post_json
from soak.project import LONG_S, SLOW_AT_ONCE, write_project
from soak.result import Findings, Result, Settings
from soak.server import PATIENCE_S, serving

CALLS = 320
WORKERS = 2
QUEUE_S = CALLS / (WORKERS * SLOW_AT_ONCE) * LONG_S
"""Seconds that all calls would take if they ran."""

BOUND_S = QUEUE_S / 2
"""The next caller waits for the runs that have started, and for its own."""

MOST_ANSWERED = 0.3
"""Most calls that may be answered. The first ones run immediately and may end before all clients have disconnected."""

TARGET = "/models/long/v1/inference"
BODY = b'{"inputs":{"x":[[1,2,3,4]]}}'


def run(settings: Settings) -> Result:
    """Abandon all calls at once, then send one more; repeat as often as the run's time allows, at least once."""
    project = write_project(settings.folder / "project")
    findings = Findings()
    waits: list[float] = []
    with serving(settings.command, project, "--workers", str(WORKERS), "--preload") as server:
        started = time.monotonic()
        while not waits or time.monotonic() - started < settings.seconds:
            waits.append(asyncio.run(_abandon(server.port, findings)))
        seconds = time.monotonic() - started
        expected = (CALLS + 1) * len(waits)
        deadline = time.monotonic() + PATIENCE_S
        while server.access_log().count("\n") < expected and time.monotonic() < deadline:
            time.sleep(0.1)
        dropped, answered = (server.access_log().count(f" {status} ") for status in (499, 200))
        for line in server.alarms():
            findings.add("the server printed an alarm", line[:300])
    if dropped + answered != expected:
        findings.add(f"the log has {dropped} lines with 499 and {answered} with 200 for {expected} calls")
    if answered > expected * MOST_ANSWERED:
        findings.add(f"{answered} of {expected} calls ran, most of them for callers that had hung up")
    if max(waits) > BOUND_S:
        findings.add(f"the next caller waited {max(waits):.1f} s, the bound is {BOUND_S:.1f} s")
    seen = (
        f"{len(waits)} times {CALLS} calls of {LONG_S} s abandoned: the next caller waited {max(waits):.1f} s at most "
        f"(bound {BOUND_S:.1f}, all runs {QUEUE_S:.0f}); {dropped:,} logged as 499, {answered:,} had been answered"
    )
    return Result("abandoned", expected, seconds, seen, findings.lines())


async def _abandon(port: int, findings: Findings) -> float:
    """Send calls, disconnect, and send one more; return how long that one took."""
    clients = [Client(port) for _ in range(CALLS)]
    request = post_json(TARGET, BODY)
    for client in clients:
        await client.send(request)
    await asyncio.sleep(0.2)
    for client in clients:
        client.close()
    asking = Client(port)
    started = time.monotonic()
    try:
        (answer,) = await asking.ask(request)
    except (LostError, HangError) as error:
        findings.add("the next caller was not answered", str(error))
        return time.monotonic() - started
    if answer.status != 200:
        findings.add(f"the next caller got a {answer.status}", repr(answer.body[:200]))
    asking.close()
    return time.monotonic() - started
