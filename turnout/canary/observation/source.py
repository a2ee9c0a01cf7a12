"""The interface of sources that saw a stage's traffic.

`Source` is what turnout.canary.rollout.rollout sees of turnout.canary.observation.local and
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
    """A moment from which on a source observes.

    Args:
        time_s: seconds since 1970.
        run: of a server whose counters these are; empty where there are no counters.
        baseline: the counters then.
        canary: the same.
    """

    time_s: float
    run: str = ""
    baseline: Arm = _NOTHING
    canary: Arm = _NOTHING

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
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
    """Whoever saw the traffic."""

    def start(self, stage: str, watched: Sequence[Watched]) -> ObservationStart:
        """This moment.

        Raises:
            ObservationError: it cannot be asked.
        """
        ...

    def observe(self, stage: str, watched: Sequence[Watched], since: ObservationStart) -> Observation:
        """Everything since a start of the same stage and the same watched models.

        Raises:
            ObservationError: it cannot be asked.
        """
        ...
