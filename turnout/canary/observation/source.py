"""The interface of sources that observe a stage's traffic.

`Source` is the interface that turnout.canary.rollout.rollout uses for turnout.canary.observation.local and
turnout.canary.observation.cloudwatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from turnout.canary.judging.observed import Arm, Observation
from turnout.plan.served_by import Watched
from turnout.problems import TurnoutError


class ObservationError(TurnoutError):
    """Nothing could be observed."""


_NOTHING = Arm()


@dataclass(frozen=True, slots=True)
class ObservationStart:
    """The time from which a source observes.

    Args:
        time_s: seconds since 1970.
        run: identifies the run of the server that has these counters; empty if there are no counters.
        baseline: the counters at that time.
        canary: likewise.
    """

    time_s: float
    run: str = ""
    baseline: Arm = _NOTHING
    canary: Arm = _NOTHING

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ObservationStart:
        """Inverse of `to_json`."""
        arms = {
            name: Arm(**{**fields[name], "durations": tuple(fields[name]["durations"])})
            for name in ("baseline", "canary")
        }
        return cls(fields["time_s"], fields["run"], **arms)


class Source(Protocol):
    """A source of observations."""

    def start(self, stage: str, watched: Sequence[Watched]) -> ObservationStart:
        """Return the current time and counters.

        Raises:
            ObservationError: the source cannot be queried.
        """
        ...

    def observe(self, stage: str, watched: Sequence[Watched], since: ObservationStart) -> Observation:
        """Return everything since a start of the same stage and the same watched models.

        Raises:
            ObservationError: the source cannot be queried.
        """
        ...
