from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from router_lambda.general.readiness import FRESH_S, MARGIN_S, PINGS_AT_ONCE, Readiness
from router_lambda.tasks import AsyncioTasks, ThreadTasks, run_to_end
from tests.builders.general_router import FakeFunctions
from turnout.protocol.aws.events import make_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.routing.invocation import Answered


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def reached(*names: str) -> dict[tuple[str, str], str]:
    return {("iris", name): f"f_{name}" for name in names}


def check(functions: FakeFunctions, names: Mapping[tuple[str, str], str], clock: Clock | None = None) -> None:
    clock = clock or Clock()
    asyncio.run(Readiness(functions, AsyncioTasks(), clock).check(names, "live", clock.now + 10))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answered(None, "failed"), "failed"),
        (Answered(None, "throttled"), "is throttled"),
        (Answered(None, "timed_out"), "did not answer in time"),
        (Answered(None, "unknown_function"), "has no function"),
        (make_answer(500, {}, b"{}"), "failed"),
        ({"rubbish": 1, "statusCode": "x"}, "failed"),
    ],
)
def test_function_that_does_not_answer_is_named(answer: Any, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        check(FakeFunctions({"f_v2": answer}), reached("v1", "v2"))
    assert caught.value.message == f"not ready: iris v2 {reason}"
    assert caught.value.body()["details"] == {"not_ready": [{"model": "iris", "version": "v2", "reason": reason}]}
    assert caught.value.status == 503


def test_model_without_a_served_version_is_named_and_nothing_is_called() -> None:
    functions = FakeFunctions()
    with pytest.raises(RequestError, match=r"^not ready: iris is not served: no stage variable names a version of it$"):
        check(functions, {("iris", ""): ""})
    assert functions.calls == []


def test_message_names_three_and_counts_the_rest() -> None:
    names = reached("v1", "v2", "v3", "v4", "v5")
    functions = FakeFunctions({name: Answered(None, "failed") for name in names.values()})
    with pytest.raises(
        RequestError, match="not ready: iris v1 failed; iris v2 failed; iris v3 failed; and 2 more"
    ) as caught:
        check(functions, names)
    assert len(caught.value.details["not_ready"]) == 5


def test_results_are_cached_for_some_seconds_bad_ones_too() -> None:
    clock, functions = Clock(), FakeFunctions({"f_v2": Answered(None, "failed")})
    readiness = Readiness(functions, AsyncioTasks(), clock)

    def ask(alias: str = "live") -> int:
        functions.calls.clear()
        with pytest.raises(RequestError):
            asyncio.run(readiness.check(reached("v1", "v2"), alias, clock.now + 10))
        return len(functions.calls)

    assert ask() == 2
    assert ask() == 0
    assert ask("next") == 2
    clock.now += FRESH_S - 0.01
    assert ask() == 0
    clock.now += 0.02
    assert ask() == 2


@dataclass
class Counting:
    """Counts how many calls run at the same time."""

    now: int = 0
    most: int = 0
    deadlines: set[float] = field(default_factory=set)

    async def __call__(
        self, function: str, alias: str, event: Any, *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        self.now += 1
        self.most = max(self.most, self.now)
        self.deadlines.add(deadline_s)
        await asyncio.sleep(0)
        self.now -= 1
        return Answered(make_answer(200, {}, b"{}"))


def test_many_functions_are_pinged_concurrently_up_to_a_limit() -> None:
    counting = Counting()
    asyncio.run(Readiness(counting, AsyncioTasks(), Clock()).check(reached(*map(str, range(120))), "live", 110.0))
    assert counting.most == PINGS_AT_ONCE
    assert counting.deadlines == {110.0 - MARGIN_S}


def test_functions_without_time_to_answer_are_reported_as_late() -> None:
    functions, clock = FakeFunctions(), Clock()
    with pytest.raises(RequestError, match="iris v1 did not answer in time"):
        asyncio.run(Readiness(functions, AsyncioTasks(), clock).check(reached("v1"), "live", clock.now + MARGIN_S))
    assert functions.calls == []


def test_on_lambda_pings_run_in_threads() -> None:
    called = []

    async def invoke(
        function: str, alias: str, event: Any, *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        called.append(function)
        return Answered(make_answer(200, {}, b"{}"))

    run_to_end(Readiness(invoke, ThreadTasks(), Clock()).check(reached("v1", "v2", "v3"), "live", 110.0))
    assert sorted(called) == ["f_v1", "f_v2", "f_v3"]
