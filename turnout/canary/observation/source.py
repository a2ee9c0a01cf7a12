"""The interface of sources that observe a stage's traffic.

`Source` is the interface that turnout.canary.rollout.rollout uses for turnout.canary.observation.local and
turnout.canary.observation.cloudwatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
        run: of a server whose counters these are; empty where there are no counters.
        baseline: the counters then.
        canary: the same.
        models: the counters of each model, baseline and canary; empty in records of earlier releases.
    """

    time_s: float
    run: str = ""
    baseline: Arm = _NOTHING
    canary: Arm = _NOTHING
    models: Mapping[str, tuple[Arm, Arm]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ObservationStart:
        """Inverse of `to_json`."""
        models = {
            model: (_arm(baseline), _arm(canary)) for model, (baseline, canary) in fields.get("models", {}).items()
        }
        return cls(fields["time_s"], fields["run"], _arm(fields["baseline"]), _arm(fields["canary"]), models)


def _arm(fields: Mapping[str, Any]) -> Arm:
    return Arm(**{**fields, "durations": tuple(fields["durations"])})


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
