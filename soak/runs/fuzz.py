"""Fuzzed requests: none causes a 5xx of ours, a hang, a dead worker, or an answer that belongs to another request."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import orjson

from soak.cases import Case, Cases, find_tags
from soak.http_client import Answer, Client, HangError, LostError
from soak.mutations import SERVICES, change_bytes, mutate
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import PATIENCE_S, serving

CLIENTS = 8
MOST_PIPELINED = 6
MUTATED = 0.7
RAW = 0.1

NOT_OURS = frozenset({501, 505})
"""Allowed statuses for an unusual head: a transfer encoding, method or HTTP version that does not exist."""


def run(settings: Settings) -> Result:
    """Fuzz for the run's time."""
    project = write_project(settings.folder / "project")
    with serving(settings.command, project, "--workers", "2", "--preload") as server:
        key = orjson.loads((project / ".turnout" / "api_keys.json").read_bytes())["keyed"]
        workers = server.workers()
        fuzz = Fuzz(server.port, key, settings)
        started = time.monotonic()
        asyncio.run(fuzz.attack(started + settings.seconds))
        seconds = time.monotonic() - started
        if server.workers() != workers:
            fuzz.findings.add("a worker died", f"{workers} became {server.workers()}")
        for line in server.alarms():
            fuzz.findings.add("the server printed an alarm", line[:300])
        if code := server.stop():
            fuzz.findings.add("the server did not stop cleanly", f"exit code {code}")
    statuses = ", ".join(f"{family}xx {count:,}" for family, count in sorted(fuzz.families.items()))
    seen = f"{statuses}; {fuzz.raw:,} of raw bytes; swapped 0, hangs 0, 5xx of ours 0"
    if fuzz.findings.lines():
        seen = statuses
    return Result("fuzz", fuzz.requests, seconds, seen, fuzz.findings.lines())


class Fuzz:
    """All clients' requests and findings.

    Args:
        port: the server's port.
        key: API key of the stage `keyed`.
        settings: the run's settings.
        patience_s: time without an answer that counts as a hang.
    """

    def __init__(self, port: int, key: str, settings: Settings, patience_s: float = PATIENCE_S) -> None:
        self._port = port
        self._patience_s = patience_s
        self._key = key
        self._settings = settings
        self.findings = Findings()
        self.families: Counter[int] = Counter()
        self.requests = self.raw = 0

    async def attack(self, deadline: float) -> None:
        """Send requests from all clients until the deadline."""
        await asyncio.gather(*(self._attack(number, deadline) for number in range(CLIENTS)))

    async def _attack(self, number: int, deadline: float) -> None:
        source = self._settings.random(number)
        cases = Cases(source, number, self._key)
        client = Client(self._port, self._patience_s)
        while time.monotonic() < deadline:
            action = self._ask_raw if source.random() < RAW else self._ask
            await self._guard(action, client, cases, source)
        client.close()

    async def _guard(
        self,
        action: Callable[[Client, Cases, random.Random, list[Case]], Awaitable[None]],
        client: Client,
        cases: Cases,
        source: random.Random,
    ) -> None:
        sent: list[Case] = []
        try:
            await action(client, cases, source, sent)
        except HangError as error:
            self.findings.add("a hang", f"{error}: {self._describe(sent)}")
        except LostError as error:
            self.findings.add("a lost request", f"{error}: {self._describe(sent)}")
        except ValueError as error:
            self.findings.add("no HTTP in the answer", f"{error}: {self._describe(sent)}")

    @staticmethod
    def _describe(sent: list[Case]) -> str:
        return " + ".join(repr(case.render()[:400]) for case in sent[:3])

    async def _ask(self, client: Client, cases: Cases, source: random.Random, sent: list[Case]) -> None:
        """Send some requests on one connection, mutated or not."""
        count = source.choice((1, 1, 1, 2, MOST_PIPELINED))
        is_mutated = source.random() < MUTATED
        sent += [cases.draw() for _ in range(count)]
        self.requests += count
        if not is_mutated:
            answers = await client.ask(*(case.render() for case in sent), heads=[case.is_head for case in sent])
            for case, answer in zip(sent, answers, strict=True):
                self._check(case, answer, is_mutated=False)
            return
        # One at a time: a rejection may end the connection, and requests after it then have no answer.
        sent[:] = [mutate(case, source) for case in sent]
        for case in sent:
            (answer,) = await client.ask(case.render(), heads=[case.is_head])
            self._check(case, answer, is_mutated=True)

    async def _ask_raw(self, client: Client, cases: Cases, source: random.Random, sent: list[Case]) -> None:
        """Send one request with changed bytes, including its head, on a new connection; then stop sending."""
        del client
        case = cases.draw()
        while case.is_head or case.target.startswith(SERVICES):
            case = cases.draw()
        sent.append(case)
        self.requests += 1
        self.raw += 1
        alone = Client(self._port, self._patience_s)
        data = change_bytes(case.render(), source)
        await alone.send(data)
        for answer in await alone.finish():
            self._check(case, answer, is_mutated=True, data=data)

    def _check(self, case: Case, answer: Answer, *, is_mutated: bool, data: bytes = b"") -> None:
        self.families[answer.status // 100] += 1
        request = repr((data or case.render())[:400])
        if foreign := find_tags(answer.raw_head + answer.body) - {case.tag} - find_tags(data):
            self.findings.add("a swapped answer", f"{sorted(foreign)} in the answer to {request}")
        if answer.status >= 500 and answer.status not in NOT_OURS:
            self.findings.add(f"a {answer.status}", f"{answer.body[:200]!r} to {request}")
        elif not is_mutated and (wrong := case.check(answer)):
            self.findings.add("a wrong answer", f"{wrong} to {request}")
