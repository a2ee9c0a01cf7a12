"""Kills processes: a worker loses only the requests it was answering, a supervisor leaves no port or process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from soak.cases import make_tag, read_values
from soak.http_client import Client, HangError, LostError, post_json
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import PATIENCE_S, Server, serving, until

CLIENTS = 16
TARGET = "/models/echo/v1/inference"


@dataclass(slots=True)
class Load:
    """Clients that send requests one after another until they are stopped.

    Attributes:
        answered: number of answers, by client.
        lost: number of requests whose connection ended before the answer, by client.
    """

    port: int
    findings: Findings
    answered: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    is_stopping: bool = False
    may_refuse: bool = False

    async def run(self) -> None:
        """Send from all clients until `is_stopping`."""
        await asyncio.gather(*(self._ask(number) for number in range(CLIENTS)))

    async def _ask(self, number: int) -> None:
        client = Client(self.port)
        while not self.is_stopping:
            count = self.answered[number]
            body = b'{"id":"%b","inputs":{"x":[[%d,%d,2,3]]}}' % (make_tag(number, count).encode(), count, number)
            try:
                await client.open()
            except LostError as error:
                if not self.may_refuse:
                    self.findings.add("a refused connection", str(error))
                    await asyncio.sleep(0.05)
                    continue
                return
            try:
                (answer,) = await client.ask(post_json(TARGET, body))
            except LostError:
                self.lost[number] += 1
                continue
            except HangError as error:
                self.findings.add("a hang", str(error))
                continue
            self.answered[number] += 1
            if answer.status != 200:
                self.findings.add(f"status {answer.status} instead of 200", repr(answer.body[:200]))
            elif read_values(answer) != [count, number, 2, 3]:
                self.findings.add("a swapped answer", f"{answer.body[:200]!r} to {body!r}")
        client.close()

    async def until_all_are_answered(self, times: int = 3) -> None:
        """Wait until every client has received this number of further answers."""
        before = Counter(self.answered)
        deadline = time.monotonic() + PATIENCE_S
        while any(self.answered[number] < before[number] + times for number in range(CLIENTS)):
            if time.monotonic() > deadline:
                self.findings.add("clients are not served any more")
                return
            await asyncio.sleep(0.02)


def run(settings: Settings) -> Result:
    """Kill workers for the run's time, stop one server, and kill the supervisor of another one."""
    findings = Findings()
    started = time.monotonic()
    project = write_project(settings.folder / "project")
    with serving(settings.command, project, "--workers", "2", "--preload", "--no-access-log") as server:
        killed, lost, in_flight, answered = asyncio.run(
            _kill_workers(server, started + settings.seconds, findings, settings.random().choice)
        )
    with serving(settings.command, project, "--workers", "2", "--no-access-log") as server:
        stopped = asyncio.run(_end(server, signal.SIGTERM, findings))
        if code := server.process.wait(PATIENCE_S):
            findings.add("SIGTERM under load: the exit code is not 0", str(code))
        _check_nothing_is_left(server, "SIGTERM", findings)
    with serving(settings.command, project, "--workers", "2", "--no-access-log") as server:
        supervised = asyncio.run(_end(server, signal.SIGKILL, findings))
        server.process.wait(PATIENCE_S)
        _check_nothing_is_left(server, "SIGKILL of the supervisor", findings)
    seen = (
        f"{killed} workers killed: lost {lost} of {answered + lost:,}, {in_flight} could be in flight; "
        f"SIGTERM lost {stopped.lost.total()} of {stopped.answered.total():,}"
    )
    return Result(
        "crashes",
        answered + lost + stopped.answered.total() + supervised.answered.total(),
        time.monotonic() - started,
        seen,
        findings.lines(),
    )


async def _kill_workers(
    server: Server, deadline: float, findings: Findings, choose: Callable[[Sequence[int]], int]
) -> tuple[int, int, int, int]:
    load = Load(server.port, findings)
    running = asyncio.create_task(load.run())
    killed = in_flight = 0
    await load.until_all_are_answered()
    while not killed or time.monotonic() < deadline:
        workers = server.workers()
        victim = choose(workers)
        before = load.lost.total()
        held = server.connections_of(victim)
        os.kill(victim, signal.SIGKILL)
        killed += 1
        in_flight += held
        await load.until_all_are_answered()
        if (lost := load.lost.total() - before) > held:
            findings.add("more was lost than a killed worker had in flight", f"{lost} of {held}")
        await asyncio.to_thread(_await_replacement, server, victim)
        await load.until_all_are_answered(1)
    load.is_stopping = True
    await running
    return killed, load.lost.total(), in_flight, load.answered.total()


def _await_replacement(server: Server, killed: int) -> None:
    until(lambda: len(server.workers()) == 2 and killed not in server.workers(), "a new worker")


async def _end(server: Server, number: signal.Signals, findings: Findings) -> Load:
    """Signal a server under load; return what its clients saw until it ended."""
    load = Load(server.port, findings, may_refuse=True)
    running = asyncio.create_task(load.run())
    await load.until_all_are_answered()
    server.process.send_signal(number)
    await asyncio.wait_for(running, PATIENCE_S)
    if number == signal.SIGTERM and load.lost.total():
        findings.add("SIGTERM lost requests", f"{load.lost.total()}")
    return load


def _check_nothing_is_left(server: Server, what: str, findings: Findings) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and (server.processes() or not server.is_port_free()):
        time.sleep(0.05)
    if left := server.processes():
        findings.add(f"{what}: processes are left", str(left))
    if not server.is_port_free():
        findings.add(f"{what}: the port is not free")
