from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from infra.aws_check.stack import ThrowawayStack
from tests.builders.waiting import PATIENCE_S


class InterruptedWaitError(Exception):
    """The signal's handler ran."""


class SlowStack:
    """A stack of Pulumi's Automation API whose update ends when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.events: list[str] = []

    def up(self, **_: Any) -> None:
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        self.events.append("updated")

    def cancel(self) -> None:
        self.events.append("canceled")

    def destroy(self, **_: Any) -> None:
        self.events.append("destroyed")


class ThrowawayStackInMemory(ThrowawayStack):
    def __init__(self, home: Path, slow: SlowStack) -> None:
        super().__init__(home, "check1", "eu-central-1", lambda: None)
        self._slow = slow

    def _stack(self) -> SlowStack:
        return self._slow


def test_interrupted_update_is_awaited_before_the_stack_is_destroyed(tmp_path: Path) -> None:
    """Up to Python 3.12, a thread whose `join` was interrupted counts as ended."""
    slow = SlowStack()
    home = tmp_path / "home"
    home.mkdir()
    stack = ThrowawayStackInMemory(home, slow)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise InterruptedWaitError

    def send_signal() -> None:
        assert slow.begun.wait(PATIENCE_S)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send_signal)
    try:
        sender.start()
        with pytest.raises(InterruptedWaitError):
            stack.up()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    timer = threading.Timer(0.5, slow.go.set)
    timer.start()
    stack.destroy()
    timer.join()
    assert slow.events == ["updated", "canceled", "destroyed"]
    assert not home.exists()
