from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.builders.queued_requests import new_request
from turnout.gateway.functions.invocation import Invocation, Occupancy
from turnout.gateway.requests import store
from turnout.gateway.requests.policies import Policies
from turnout.gateway.requests.pump import Pump, ServedQueue
from turnout.gateway.requests.queue import Queue
from turnout.manifest.parser import Asynchronous

PATIENCE_S = 60
ANSWER = {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{}", "isBase64Encoded": False}


class Worker:
    """The functions of one worker, which count their calls."""

    takes_files = True

    def __init__(self, called_s: float) -> None:
        self.calls = 0
        self.called_s = called_s

    def occupancy(self) -> Occupancy:
        return Occupancy(open=1, running=0, waiting=0, called_s=self.called_s)

    async def invoke(self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float) -> Invocation:
        self.calls += 1
        return Invocation(ANSWER)


@pytest.mark.parametrize("is_alone", [False, True], ids=["another worker is idle", "alone"])
def test_a_worker_with_callers_lets_an_idle_one_run_requests(is_alone: bool, tmp_path: Path) -> None:
    called, idle = Worker(time.monotonic() + 3600), Worker(-math.inf)
    policies = Policies({"dev": Asynchronous()}, {"f": 60.0})

    async def run() -> None:
        queue = Queue(tmp_path / "requests", clock=lambda: 10.0)
        for number in range(3):
            new = new_request(f"r{number}", event=b'{"headers": {}, "turnout": {"draw": 0.5}}')
            await queue.database.run(lambda database, new=new: store.accept(database, new, 10**9))
        stop = asyncio.Event()
        pumps = []
        # The worker with callers waits longer than the test takes, unless it is the only one.
        for worker, yield_s in ((called, 0.01 if is_alone else 2 * PATIENCE_S), (idle, 2 * PATIENCE_S)):
            if worker is idle and is_alone:
                continue
            pump = Pump(
                Queue(tmp_path / "requests", clock=lambda: 10.0),
                lambda worker=worker: ServedQueue(worker, policies),  # type: ignore[misc]
                at_once=1,
                most_running=2,
                look_s=0.01,
                yield_s=yield_s,
            )
            pumps.append(asyncio.ensure_future(pump.run(stop)))
        deadline = time.monotonic() + PATIENCE_S
        while called.calls + idle.calls < 3 and time.monotonic() < deadline:  # noqa: ASYNC110 - the workers are plain
            await asyncio.sleep(0.01)
        stop.set()
        for pump_task in pumps:
            pump_task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    asyncio.run(run())
    assert (called.calls, idle.calls) == ((3, 0) if is_alone else (0, 3))
