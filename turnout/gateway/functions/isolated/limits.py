"""Limits of one isolated function: environments, waiting calls, calls at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EnvironmentLimits:
    """Limits of one function.

    Args:
        environments: at once; more calls wait. Asynchronous runs are not counted.
        idle_s: after which an environment that has nothing to do is ended.
        waiting: calls that wait for an environment; more are `throttled`.
    """

    environments: int
    idle_s: float
    waiting: int = 10_000


class Slots(Protocol):
    """Counts the calls of one function that has a reserved concurrency, in this process or over several."""

    def take(self) -> bool:
        """Count one call; False where there are as many as may be."""
        ...

    def give(self) -> None:
        """It is over."""
        ...


class LocalSlots:
    """`Slots` of one process."""

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self) -> bool:
        """See `Slots`."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def give(self) -> None:
        """See `Slots`."""
        self._free += 1
