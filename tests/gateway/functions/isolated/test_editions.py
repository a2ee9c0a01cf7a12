"""Isolated functions at a reload: unchanged ones are taken over, changed ones are retired after their last call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from tests.builders.isolated_project import ANSWER, SLEEP, call, pid_of, play, processes_of
from tests.builders.waiting import wait_on_loop
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.limits import EnvironmentLimits
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.packaging.layer import LayerError

CodeOf = Mapping[str, FunctionCode]

LIMITS = EnvironmentLimits(2, 300.0)


def changed(code: FunctionCode) -> FunctionCode:
    """The same function with another plan."""
    return replace(code, function=replace(code.function, settings=replace(code.function.settings, timeout_s=14)))


def test_environments_of_unchanged_functions_are_taken_over(code_of: CodeOf) -> None:
    codes = [code_of["plain"], code_of["wild"]]

    async def scenario(functions: IsolatedFunctions) -> None:
        kept = pid_of(await call(functions, ANSWER))
        await call(functions, ANSWER, model="plain")
        following = IsolatedFunctions(lambda: [changed(codes[0]), codes[1]], LIMITS, before=functions)
        running = asyncio.ensure_future(call(functions, SLEEP, 0.3))
        assert await following.prepare(everything=False) == ""
        assert following.environments() == {"turnout-local_plain_v1": 1, "turnout-local_wild_v1": 1}, "both were warm"
        functions.retire(following)
        assert pid_of(await running) == kept
        assert pid_of(await call(following, ANSWER)) == kept
        await wait_on_loop(lambda: len(processes_of([codes[0]])) == 1, "the end of the old one")
        await wait_on_loop(lambda: functions.environments() == {"turnout-local_wild_v1": 1}, "the end of the old one")

    play(codes, scenario)


def test_a_retired_function_ends_after_its_last_call(code_of: CodeOf) -> None:
    code = code_of["wild"]

    async def scenario(functions: IsolatedFunctions) -> None:
        pid_of(await call(functions, ANSWER))
        calls = [asyncio.ensure_future(call(functions, SLEEP, 0.3)) for _ in range(3)]
        await asyncio.sleep(0.1)
        functions.retire(IsolatedFunctions([], LIMITS))
        for one in await asyncio.gather(*calls):
            pid_of(one)
        await wait_on_loop(lambda: not functions.environments(), "the end of the retired ones")
        assert processes_of([code]) == set()

    play([code], scenario, environments=1)


def test_a_function_retired_during_its_init_ends_without_an_error(
    code_of: CodeOf, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        loading = asyncio.ensure_future(functions.prepare(everything=True))
        await wait_on_loop(lambda: bool(processes_of([code_of["stuck"]])), "the process")
        functions.retire(IsolatedFunctions([], LIMITS))
        assert "retired" in await loading
        assert functions.environments() == {}

    play([code_of["stuck"]], scenario)
    assert caplog.text == ""


def test_a_trial_reports_functions_that_cannot_start_and_leaves_nothing(code_of: CodeOf) -> None:
    codes = [code_of["plain"], code_of["raises"]]

    async def scenario(functions: IsolatedFunctions) -> None:
        trial = IsolatedFunctions(lambda: codes, LIMITS)
        reasons = await trial.try_out(["turnout-local_plain_v1", "turnout-local_raises_v1"])
        assert reasons.keys() == {"turnout-local_raises_v1"}
        assert "ValueError: no such weights" in reasons["turnout-local_raises_v1"]
        assert processes_of(codes) == set()

    play([], scenario)


def test_preparing_reports_functions_that_cannot_start(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        assert "exit status 7" in await functions.prepare(everything=True)

    play([code_of["exits"]], scenario)


def test_packages_that_cannot_be_built_are_an_error_of_the_preparation() -> None:
    def fail() -> Iterable[FunctionCode]:
        raise LayerError("no index within reach")

    async def scenario(functions: IsolatedFunctions) -> None:
        following = IsolatedFunctions(fail, LIMITS, before=functions)
        with pytest.raises(LayerError, match="no index"):
            await following.prepare(everything=False)

    play([], scenario)


class Counted:
    """Slots that record what was taken and released."""

    def __init__(self) -> None:
        self.taken = 0
        self.most = 0

    def take(self) -> bool:
        if self.taken == 1:
            return False
        self.taken += 1
        self.most = max(self.most, self.taken)
        return True

    def give(self) -> None:
        self.taken -= 1


def test_every_slot_taken_by_a_call_is_released(code_of: CodeOf) -> None:
    slots = Counted()

    async def scenario(_: IsolatedFunctions) -> None:
        functions = IsolatedFunctions(
            [code_of["alone"]], EnvironmentLimits(1, 300.0), make_slots=lambda _name, _count: slots
        )
        try:
            for action, timeout_s in ((ANSWER, 60), (SLEEP, 0.2), (1, 60), (99, 60)):
                result: Invocation = await call(functions, action, 5, "alone", timeout_s)
                assert result.error != "throttled"
                assert slots.taken == 0
        finally:
            functions.close()

    play([], scenario)
    assert slots.most == 1
