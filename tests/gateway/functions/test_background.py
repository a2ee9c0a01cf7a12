"""Background calls: their failures are only logged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from turnout.gateway.functions.background import Background
from turnout.gateway.functions.invocation import Invocation


class Broken:
    def invoke(self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float) -> Invocation:
        raise LookupError("a mistake of ours")


def test_an_error_of_the_gateway_is_logged_and_its_slot_is_free_again(caplog: pytest.LogCaptureFixture) -> None:
    background = Background(Broken(), limit=1)

    async def test() -> None:
        assert background.submit("f", "live", {})
        assert not background.submit("f", "live", {})
        while not background.submit("f", "live", {}):  # noqa: ASYNC110
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(test(), 20))
    assert "f: an asynchronous call failed inside the gateway" in caplog.text
    assert "LookupError: a mistake of ours" in caplog.text
