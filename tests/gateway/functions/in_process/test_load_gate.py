"""Concurrent loads."""

from __future__ import annotations

import asyncio

from tests.builders.waiting import wait_on_loop
from turnout.gateway.functions.in_process.load_gate import LoadGate


def test_loads_wait_for_each_other_in_order() -> None:
    async def scenario() -> None:
        gate, started = LoadGate(2), []
        for name in "abcd":
            gate.enter(name, lambda name=name: started.append(name))
        assert started == ["a", "b"]
        gate.leave("b")
        assert started == ["a", "b", "c"]
        gate.leave("b")
        gate.leave("nothing")
        assert started == ["a", "b", "c"]
        gate.leave("a")
        assert started == ["a", "b", "c", "d"]

    asyncio.run(scenario())


def test_a_hanging_load_blocks_others_only_for_a_while() -> None:
    async def scenario() -> None:
        gate, started = LoadGate(1, patience_s=0.01), []
        gate.enter("hangs", lambda: started.append("hangs"))
        gate.enter("next", lambda: started.append("next"))
        assert started == ["hangs"]
        await wait_on_loop(lambda: started == ["hangs", "next"])

    asyncio.run(scenario())
