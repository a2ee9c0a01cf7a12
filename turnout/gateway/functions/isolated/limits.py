"""Limits of one isolated function: environments, waiting calls, concurrent calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EnvironmentLimits:
    """Limits of one function.

    Args:
        environments: most environments at once; more calls wait. Asynchronous runs are not counted.
        idle_s: time after which an idle environment is ended.
        waiting: most calls that wait for an environment; more are `throttled`.
    """

    environments: int
    idle_s: float
    waiting: int = 10_000


class Slots(Protocol):
    """Counts the calls of one function with a reserved concurrency, in this process or across several."""

    def take(self) -> bool:
        """Count one call; return False if the limit is reached."""
        ...

    def give(self) -> None:
        """Count the end of a call."""
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
