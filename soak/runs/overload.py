"""Many more clients than capacity: calls are answered in order and in time, the excess is rejected immediately."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from dataclasses import dataclass

from soak.http_client import Client, HangError, LostError, post_json, render
from soak.project import SLOW_AT_ONCE, SLOW_S, SLOW_TIMEOUT_S, write_project
from soak.result import Findings, Result, Settings
from soak.server import serving

CAPACITY = SLOW_AT_ONCE / SLOW_S
"""Calls a second of one worker. Its runs wait without using the processor, so a busy machine hardly matters."""

CLIENTS = 1000
"""Number of clients; 640 can be answered within the deadline."""

IMPATIENT = 10
"""Every tenth client retries immediately, regardless of Retry-After."""

OVERTAKEN_S = 0.5
"""A call may be answered after one that was sent up to this much later, because sockets are read in no fixed order."""

SPARE_S = 0.5
"""Added to each bound for delays that a client's clock includes besides the queue, and twice the duration of a health
check, which waits for sockets and processors like other calls, but for no queue.
"""

WARM_UP_S = float(SLOW_TIMEOUT_S)
"""Calls in the first seconds are not judged: a server without completed runs cannot know how long one takes."""

TIMED_OUT_SHARE = 0.15
"""Allowed share of admitted calls that time out. The wait of a call is an estimate, and runs take longer when the
machine gets busier.
"""

GOODPUT_SHARE = 0.3
"""Required share of the capacity in answers that arrive in time. The machine is shared, and the clients run on it,
too.
"""

HEALTH = render("GET", "/health/live")
TARGET = "/models/slow/v1/inference"
BODY = b'{"inputs":{"x":[[1,2,3,4]]}}'


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was sent and answered, on the clients' clock."""

    sent: float
    answered: float
    status: int
    retry_after: str

    @property
    def took_s(self) -> float:
        """Seconds that its client waited."""
        return self.answered - self.sent


def run(settings: Settings) -> Result:
    """Send requests from all clients for the run's time."""
    project = write_project(settings.folder / "project")
    findings = Findings()
    with serving(settings.command, project, "--workers", "1", "--preload", "--no-access-log") as server:
        started = time.monotonic()
        attacking_s = max(settings.seconds, 3 * WARM_UP_S)
        calls, health = asyncio.run(attack(server.port, CLIENTS, started + attacking_s, findings))
        seconds = time.monotonic() - started
        for line in server.alarms():
            findings.add("the server printed an alarm", line[:300])
    late = [call for call in calls if call.sent >= started + WARM_UP_S]
    return Result("overload", len(calls), seconds, judge(late, health, seconds - WARM_UP_S, findings), findings.lines())


async def attack(port: int, clients: int, deadline: float, findings: Findings) -> tuple[list[Call], list[float]]:
    """Make all calls of all clients until the deadline; return them and the duration of a health check."""
    calls: list[Call] = []
    health: list[float] = []

    async def ask_for_health() -> None:
        client = Client(port)
        while time.monotonic() < deadline:
            sent = time.monotonic()
            try:
                (answer,) = await client.ask(HEALTH)
            except (LostError, HangError) as error:
                findings.add("the health check was not answered", str(error))
                continue
            health.append(time.monotonic() - sent)
            if answer.status != 200:
                findings.add(f"the health check got a {answer.status}")
            await asyncio.sleep(0.1)
        client.close()

    async def ask(number: int) -> None:
        client = Client(port)
        while time.monotonic() < deadline:
            try:
                await client.open()
                sent = time.monotonic()
                (answer,) = await client.ask(post_json(TARGET, BODY))
            except (LostError, HangError) as error:
                findings.add("an unanswered call", str(error))
                continue
            retry_after = answer.fields.get("retry-after", "")
            calls.append(Call(sent, time.monotonic(), answer.status, retry_after))
            if answer.status in {429, 503} and number % IMPATIENT:
                await asyncio.sleep(1.0)
        client.close()

    await asyncio.gather(ask_for_health(), *(ask(number) for number in range(clients)))
    return calls, health


def judge(calls: list[Call], health: list[float], seconds: float, findings: Findings) -> str:
    """Check the promises; return the numbers."""
    answered = [call for call in calls if call.status == 200]
    refused = [call for call in calls if call.status in {429, 503}]
    timed_out = [call for call in calls if call.status == 504]
    for call in refused:
        if not call.retry_after:
            findings.add(f"a {call.status} without Retry-After")
    for status in {call.status for call in calls} - {200, 429, 503, 504}:
        findings.add(f"status {status}")
    if not answered:
        findings.add("nothing was answered")
        return f"answered 0, refused {len(refused):,}"
    admitted = len(answered) + len(timed_out)
    p99_s = percentile([call.took_s for call in answered], 0.99)
    refused_s = percentile([call.took_s for call in refused], 0.5) if refused else 0.0
    overtaken = overtaken_s(answered + timed_out)
    health_s = percentile(health, 0.99)
    spare_s = SPARE_S + 2 * health_s
    goodput = len(answered) / seconds / CAPACITY
    broken = {
        f"p99 of the admitted is {p99_s:.2f} s, their deadline {SLOW_TIMEOUT_S} s": p99_s > SLOW_TIMEOUT_S + spare_s,
        f"{len(timed_out)} of {admitted} admitted calls timed out": len(timed_out) > TIMED_OUT_SHARE * admitted,
        f"a call was answered after one that was sent {overtaken:.2f} s later": overtaken > OVERTAKEN_S + spare_s,
        f"half of the refusals took longer than {refused_s:.2f} s": refused_s > spare_s,
        f"the goodput is {goodput:.0%} of the capacity": goodput < GOODPUT_SHARE,
        "nothing was refused": not refused,
    }
    for what, is_so in broken.items():
        if is_so:
            findings.add(what)
    return (
        f"answered {len(answered):,} ({goodput:.0%} of capacity), p99 {p99_s:.2f} s; timed out {len(timed_out)}; "
        f"refused {len(refused):,}, half within {refused_s:.2f} s; overtaken by {overtaken:.2f} s at most; "
        f"health p99 {health_s:.2f} s"
    )


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of all values is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def overtaken_s(calls: list[Call]) -> float:
    """Return the most by which a call was overtaken: how much later another one was sent that was answered first."""
    by_answer = sorted(calls, key=lambda call: call.answered)
    ends = [call.answered for call in by_answer]
    latest: list[float] = []
    for call in by_answer:
        latest.append(max(call.sent, latest[-1]) if latest else call.sent)
    most = 0.0
    for call in by_answer:
        before = bisect_left(ends, call.answered)
        if before:
            most = max(most, latest[before - 1] - call.sent)
    return most
