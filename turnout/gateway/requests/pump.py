"""Runs queued requests in a worker. Its synchronous calls have priority.

A worker starts no run while one of its synchronous calls waits, and a run takes no slot from synchronous calls.
`MOST_RUNNING` bounds the runs of all workers together.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pybase64

from turnout.gateway.api.proxy_response import MalformedAnswerError, read_answer
from turnout.gateway.functions.invocation import Functions, Invocation, Wrap, no_wrap
from turnout.gateway.requests import store
from turnout.gateway.requests.database import DatabaseError, QueueOwner
from turnout.gateway.requests.files import Content, sync
from turnout.gateway.requests.policies import Policies
from turnout.gateway.requests.queue import LOOK_S, Queue, refusing_when_full
from turnout.gateway.requests.rows import Claim, StoredAnswer
from turnout.gateway.requests.webhooks import Delivery, claim_deliveries, deliver, end_delivery
from turnout.protocol.naming import VERSION_HEADER
from turnout.protocol.requests import states
from turnout.protocol.requests.outcomes import (
    Outcome,
    describe_error,
    judge_error,
    judge_status,
    read_failure,
    status_of_error,
)
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.runs import AsyncRun, spell_run
from turnout.protocol.requests.states import Progress
from turnout.protocol.requests.webhooks import CallbackError
from turnout.system.files import file_digest

log = logging.getLogger("turnout.requests")

CLEAN_S = 30.0
"""Interval between two checks for expired requests."""

DELIVERIES = 4
"""Most webhooks that a worker sends at once."""

IN_EVENT_BYTES = 4 * 1024 * 1024
"""The largest body inside an event; a larger one is passed as a file."""

RECENT_S = 0.2
"""A worker that answered a synchronous call within this time lets the other workers start runs first."""

YIELD_S = 0.05
"""How long it lets them. Reading a large body holds the interpreter's lock for milliseconds, and the worker's callers
would wait for it.
"""

OPENING_S = 300.0
"""Time to open the function, in addition to a run's limit. A run that takes longer is aborted."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended, as observers see it.

    Args:
        claim: the request.
        event: the call's event.
        status: the answer's status; 502 or 504 if the function returned none.
        headers: the answer's headers.
        body: the request's body, if it was part of the event.
        seconds: the run's duration.
    """

    claim: Claim
    event: Mapping[str, Any]
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float


Observe = Callable[[FinishedRun], None]


@dataclass(frozen=True, slots=True)
class ServedQueue:
    """The functions and policies that a worker currently uses. `wrap` wraps the functions for each call."""

    functions: Functions
    policies: Policies
    observe: Observe | None = None
    wrap: Wrap = no_wrap


class Pump:
    """Runs requests on the event loop of one worker.

    Args:
        queue: the project's queue.
        served: returns the current functions and policies.
        at_once: most runs of this worker at once.
        most_running: most runs of all workers at once.
        look_s: interval between two looks at the queue, unless it is woken.
        yield_s: see `YIELD_S`; 0 if there are no other workers.
    """

    def __init__(
        self,
        queue: Queue,
        served: Callable[[], ServedQueue],
        *,
        at_once: int,
        most_running: int,
        look_s: float = LOOK_S,
        yield_s: float = YIELD_S,
    ) -> None:
        self._queue = queue
        self._served = served
        self._at_once = at_once
        self._most_running = most_running
        self._look_s = look_s
        self._yield_s = yield_s
        self._owner: QueueOwner | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._clean_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Run requests until `stop` is set, then wait for the runs to end. When canceled, queue them again."""
        self._queue.on_kick(self._wake.set)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                await self._look()
                waking = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait([waking, stopping], timeout=self._look_s, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                self._wake.clear()
            if self._runs:
                await asyncio.wait(self._runs)
        finally:
            stopping.cancel()
            tasks = (*self._runs, *self._deliveries)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave()

    async def _look(self) -> None:
        """Start runs, and take over requests of processes that have ended."""
        queue = self._queue
        try:
            if self._owner is None:
                self._owner = await queue.database.run(lambda database: QueueOwner(database, queue.folder))
            now = queue.clock()
            if now >= self._clean_at:
                self._clean_at = now + CLEAN_S
                await self._clean(now)
            await self._take_over(now)
            await self._call_back(now)
            for claim in await self._claim(now):
                task = asyncio.get_running_loop().create_task(self._run(claim))
                self._runs.add(task)
                task.add_done_callback(self._end)
        except (DatabaseError, sqlite3.Error, OSError):
            log.exception("asynchronous requests cannot be run at the moment")

    def _end(self, task: asyncio.Task[None]) -> None:
        self._runs.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("an asynchronous request failed inside the gateway", exc_info=task.exception())

    async def _claim(self, now: float) -> list[Claim]:
        served, owner = self._served(), self._owner
        room = self._at_once - len(self._runs)
        assert owner is not None
        occupancy = served.functions.occupancy()
        if room <= 0 or occupancy.waiting:
            return []
        database = self._queue.database
        if not await database.run(lambda connection: store.has_work(connection, now), reads=True):
            return []
        if self._yield_s and time.monotonic() - occupancy.called_s < RECENT_S:
            await asyncio.sleep(self._yield_s)
        claimed = partial(
            store.claim,
            owner=owner.id,
            now=now,
            most=room,
            most_running=self._most_running,
            max_stored_bytes=served.policies.max_stored_bytes,
        )
        # if a power cut undoes the start of a run, the run is started again
        return await database.run(claimed, is_durable=False)

    async def _take_over(self, now: float) -> None:
        """Queue again the requests of processes that have ended."""
        owner, database = self._owner, self._queue.database
        assert owner is not None
        if await database.run(lambda connection: store.find_gone(connection, owner.is_gone), reads=True):
            taken = await database.run(lambda connection: store.take_from_gone(connection, owner.is_gone, now))
            if taken:
                log.warning("%d asynchronous requests were taken over from a process that ended", taken)

    async def _call_back(self, now: float) -> None:
        """Send the due webhooks in the background."""
        room = DELIVERIES - len(self._deliveries)
        database = self._queue.database
        if room <= 0 or not await database.run(lambda connection: store.has_callback(connection, now), reads=True):
            return
        for delivery in await database.run(lambda connection: claim_deliveries(connection, now, room)):
            task = asyncio.get_running_loop().create_task(self._deliver(delivery))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        queue, is_delivered = self._queue, False
        try:
            await asyncio.to_thread(deliver, delivery, queue.secret, queue.clock())
            is_delivered = True
        except CallbackError as error:
            log.warning("the webhook of request %s, try %d: %s", delivery.identifier, delivery.attempt, error)
        with suppress(DatabaseError, sqlite3.Error):
            await queue.database.run(lambda database: end_delivery(database, delivery, is_delivered=is_delivered))

    async def _clean(self, now: float) -> None:
        queue = self._queue
        for name in await queue.database.run(lambda connection: store.expire(connection, now)):
            await asyncio.to_thread(queue.files.delete, name)
        in_use = await queue.database.run(store.files_in_use, reads=True)
        await asyncio.to_thread(queue.files.delete_abandoned, lambda: in_use)

    async def _leave(self) -> None:
        owner, self._owner = self._owner, None
        if owner is None:
            return
        now = self._queue.clock()
        with suppress(DatabaseError, sqlite3.Error):
            await self._queue.database.run(lambda connection: store.give_back_all(connection, owner.id, now))
        owner.close()

    # One run.

    async def _run(self, claim: Claim) -> None:
        queue, served = self._queue, self._served()
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer_file = queue.files.temporary_path()
        try:
            event, body = await asyncio.to_thread(self._make_event, claim, served.functions, answer_file)
            if event is None:
                outcome, answer = Outcome.FINAL, _too_large_for_isolated(claim)
                event = {}
            else:
                invocation = await self._invoke(claim, served, event)
                outcome, answer = await self._read(claim, invocation, answer_file)
            await self._finish(claim, outcome, answer)
        finally:
            answer_file.unlink(missing_ok=True)
        if served.observe is not None and outcome is not Outcome.NO_ROOM:
            served.observe(FinishedRun(claim, event, answer.status or 502, answer.headers, body, loop.time() - started))

    def _make_event(self, claim: Claim, functions: Functions, answer_file: Path) -> tuple[dict[str, Any] | None, bytes]:
        """The event of a run, and the body if the event contains it. None if the body is too large for the function."""
        event = orjson.loads(claim.event)
        draw = event["turnout"]["draw"]
        takes_files = functions.takes_files
        body, body_file = b"", ""
        if claim.body.size > IN_EVENT_BYTES:
            if not takes_files:
                return None, b""
            body_file = str(self._queue.files.path(claim.body.file))
        elif claim.body.size:
            body = self._queue.files.read(claim.body)
            event["body"], event["isBase64Encoded"] = pybase64.b64encode_as_string(body), True
        run = AsyncRun(body_file, str(answer_file) if takes_files else "", claim.max_answer_bytes)
        event["turnout"] = spell_run(run, draw)
        return event, body

    async def _invoke(self, claim: Claim, served: ServedQueue, event: dict[str, Any]) -> Invocation:
        timeout_s = served.policies.timeout_s(claim.function)
        try:
            async with asyncio.timeout(timeout_s + OPENING_S):
                called = served.wrap(served.functions).invoke(claim.function, claim.alias, event, timeout_s)
                return called if isinstance(called, Invocation) else await called
        except TimeoutError:
            return Invocation(None, "timed_out", f"{claim.function}: no response within its timeout of {timeout_s:g} s")

    async def _read(self, claim: Claim, invocation: Invocation, answer_file: Path) -> tuple[Outcome, StoredAnswer]:
        """Store the answer of a call, and return its outcome."""
        if invocation.error is not None or invocation.answer is None:
            return _without_answer(claim, invocation)
        given = dict(invocation.answer)
        said = given.pop("turnout", None)
        try:
            status, headers, body = read_answer(given, decodes_base64=True)
        except MalformedAnswerError as error:
            return _without_answer(claim, Invocation(None, "failed", f"malformed answer: {error}"))
        outcome = judge_status(status)
        version = next((value for name, value in headers if name.lower() == VERSION_HEADER), "")
        failure = {} if outcome is Outcome.DONE else read_failure(status, body)
        content, digest = await asyncio.to_thread(self._keep, body, answer_file if said else None)
        return outcome, StoredAnswer(status, headers, content, digest, version, failure)

    def _keep(self, body: bytes, answer_file: Path | None) -> tuple[Content, str]:
        files = self._queue.files
        if answer_file is None:
            return files.keep(body), hashlib.sha256(body).hexdigest()
        digest = file_digest(answer_file)
        with answer_file.open("rb") as file:
            sync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        return files.adopt(answer_file, size), digest

    async def _finish(self, claim: Claim, outcome: Outcome, answer: StoredAnswer) -> None:
        queue = self._queue
        now = queue.clock()
        step = _step_of(outcome, now)
        try:
            with refusing_when_full():
                is_kept = await asyncio.shield(
                    queue.database.run(lambda database: store.finish(database, claim, step, answer, now))
                )
        except Refusal:
            log.warning("%s: the disk is full: the request is run again later", claim.id)
            is_kept = False
        if not is_kept and answer.content.file:
            await asyncio.to_thread(queue.files.delete, answer.content.file)


def _step_of(outcome: Outcome, now: float) -> Callable[[Progress], Progress]:
    match outcome:
        case Outcome.DONE:
            return lambda progress: states.succeed(progress, now)
        case Outcome.NO_ROOM:
            return lambda progress: states.give_back(progress, now, states.THROTTLED_S)
        case _:
            return lambda progress: states.fail(progress, now, is_final=outcome is Outcome.FINAL)


def _without_answer(claim: Claim, invocation: Invocation) -> tuple[Outcome, StoredAnswer]:
    error = invocation.error or "failed"
    log.error("request %s: %s: %s: %s", claim.id, claim.function, error, invocation.message)
    return judge_error(error), StoredAnswer(status_of_error(error), failure=describe_error(error, claim.attempt))


def _too_large_for_isolated(claim: Claim) -> StoredAnswer:
    message = (
        f"with `--isolated` a body may have {IN_EVENT_BYTES} bytes, this one has {claim.body.size}: send fewer rows, "
        "or serve without `--isolated`"
    )
    return StoredAnswer(413, failure={"error": message, "code": "PAYLOAD_TOO_LARGE", "details": {}})
