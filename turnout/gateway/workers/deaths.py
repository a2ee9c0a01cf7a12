"""Counts the workers that each version crashed. After the second crash the version is no longer served.

A worker that ends while only one function runs was ended by that function. If several run, each of them is suspected,
and afterwards only one of the suspected runs at a time in each worker: the next end shows which one it is.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from turnout.gateway.shared.running import MOST_DEATHS, key_of
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.gateway.workers.worker import UNPREPARED, WORN

OOM_KILLS = Path("/sys/fs/cgroup/memory.events")

_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


def count_oom_kills(file: Path = OOM_KILLS) -> int:
    """Return the number of processes of this control group that were killed for lack of memory."""
    try:
        counts = dict(line.split() for line in file.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


class Deaths:
    """Records which functions workers ran when they ended.

    Args:
        state: shared with the workers, which apply it from their next request on.
        digests: name -> digest of each function of the current edition.
        oom_kills: number of processes killed for lack of memory so far.
    """

    def __init__(
        self,
        state: SharedState,
        digests: Callable[[], Mapping[str, str]],
        oom_kills: Callable[[], int] = count_oom_kills,
    ) -> None:
        self._state = state
        self._digests = digests
        self._oom_kills = oom_kills
        self._killed_for_memory = oom_kills()

    def note(self, worker: int, code: int, *, stood_still: bool) -> list[str]:
        """Count an end of a worker, and return sentences on the consequences for functions.

        Args:
            worker: number of the worker; it must not have been restarted yet.
            code: its exit code, negative for signals.
            stood_still: whether it was killed because its event loop was blocked.
        """
        if code in {UNPREPARED, WORN}:
            return []
        killed = self._oom_kills()
        no_memory, self._killed_for_memory = killed > self._killed_for_memory, killed
        if -code in _FROM_OUTSIDE and not stood_still and not (code == -signal.SIGKILL and no_memory):
            return []
        keys = self._state.running.of(worker)
        digests = self._digests()
        running = [name for name in digests if key_of(name) in keys]
        if not running:
            return []
        known = self._state.read()[1].deaths
        watched = [name for name in running if known.get(name, ("", 0))[0] == digests[name]]
        counts = {name: (digests[name], 1 + (known[name][1] if name in watched else 0)) for name in watched or running}

        def change(state: ControlState | None) -> ControlState:
            assert state is not None
            return replace(state, deaths={**state.deaths, **counts})

        self._state.update(change)
        return [_sentence(name, count) for name, (_, count) in counts.items()]


def _sentence(name: str, count: int) -> str:
    if count >= MOST_DEATHS:
        return f"{name} crashed {count} workers and is no longer served; `turnout serve --isolated` can serve it"
    return f"{name} may have crashed a worker; after a second crash it is no longer served"
