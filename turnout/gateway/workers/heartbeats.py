"""Finds workers whose event loops are blocked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

LOOK_S = 2.0
"""Longest time between the supervisor's checks."""

STALLED_AFTER_S = 20.0
"""By design, an event loop is never blocked for this long, because slow work runs in threads. The time is long enough
for a machine on which a worker hardly gets the processor.
"""


@dataclass(slots=True)
class _Seen:
    """A worker's count, and since when it has not changed."""

    count: int
    since_s: float


class Heartbeats:
    """The workers' counts as the supervisor saw them.

    Args:
        count_of: returns a worker's number of iterations, 0 until it counts the first.
        patience_s: how long the number may stay the same.
    """

    def __init__(self, count_of: Callable[[int], int], patience_s: float = STALLED_AFTER_S) -> None:
        self.patience_s = patience_s
        self._count_of = count_of
        self._seen: dict[int, _Seen] = {}
        self._looked_s: float | None = None

    def find_stalled(self, workers: Iterable[int], now_s: float) -> list[int]:
        """Return the workers whose counts have not changed for too long, each once."""
        if self._looked_s is not None and now_s - self._looked_s > 2 * LOOK_S:
            self._seen.clear()  # this process did not run, either: the machine was suspended or is overloaded
        self._looked_s = now_s
        stalled = []
        for worker in workers:
            count = self._count_of(worker)
            seen = self._seen.get(worker)
            if seen is None or seen.count != count or not count:
                self._seen[worker] = _Seen(count, now_s)
            elif now_s - seen.since_s >= self.patience_s:
                stalled.append(worker)
                del self._seen[worker]
        return stalled
