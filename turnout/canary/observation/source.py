"""What can be asked of whoever saw a stage's traffic, and what it is asked about.

Comes in: a plan and a stage's variables. Goes out: the functions to watch. `Source` is what
turnout.canary.rollout.rollout sees of turnout.canary.observation.local and turnout.canary.observation.cloudwatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from turnout.canary.judging.observed import Arm, Observation
from turnout.plan.values import Plan
from turnout.protocol.naming import (
    ALIAS_VARIABLE,
    ROUTER,
    function_name,
    function_prefix,
    route_variable_name,
    variable_name,
)
from turnout.protocol.routing.choice import RouteError, parse_route


class ObservationError(Exception):
    """Nothing could be observed; the message is a sentence, `hint` the remedy or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_NOTHING = Arm()


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers a model's unversioned calls in one share of a stage's traffic.

    Args:
        function: the one that the stage calls: a version's, or the model's router.
        versions: `function:alias` of those that run the model then, as CloudWatch names them.
    """

    function: str
    versions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Watched:
    """A model for which the canary's share differs from the baseline's."""

    model: str
    baseline: Serving
    canary: Serving


@dataclass(frozen=True, slots=True)
class Mark:
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
    def from_json(cls, row: Mapping[str, Any]) -> Mark:
        """What `to_json` gave, whether or not it was text in between."""
        arms = {
            name: Arm(**{**row[name], "durations": tuple(row[name]["durations"])}) for name in ("baseline", "canary")
        }
        return cls(row["time_s"], row["run"], **arms)


class Source(Protocol):
    """Whoever saw the traffic."""

    def mark(self, stage: str, watched: Sequence[Watched]) -> Mark:
        """This moment.

        Raises:
            ObservationError: it cannot be asked.
        """
        ...

    def observe(self, stage: str, watched: Sequence[Watched], since: Mark) -> Observation:
        """Everything since a mark of the same stage and the same watched models.

        Raises:
            ObservationError: it cannot be asked.
        """
        ...


def watched_of(plan: Plan, variables: Mapping[str, str], overrides: Mapping[str, str]) -> tuple[Watched, ...]:
    """The models that a canary moves.

    Args:
        plan: names the models and their functions.
        variables: the stage's own.
        overrides: its canary's.
    """
    prefix = function_prefix(plan.platform, plan.stack)
    seen = {**variables, **overrides}
    models = dict.fromkeys(served.version.model for served in plan.versions)
    rows = ((model, _serving(prefix, model, variables), _serving(prefix, model, seen)) for model in models)
    return tuple(Watched(model, baseline, canary) for model, baseline, canary in rows if baseline != canary)


def _serving(prefix: str, model: str, variables: Mapping[str, str]) -> Serving:
    chosen = variables.get(variable_name(model), "")
    alias = variables.get(ALIAS_VARIABLE, "")
    versions = (chosen,) if chosen != ROUTER else _routed(variables.get(route_variable_name(model), ""))
    return Serving(
        function_name(prefix, model, chosen),
        frozenset(f"{function_name(prefix, model, version)}:{alias}" for version in versions),
    )


def _routed(route: str) -> Sequence[str]:
    """The versions that a router chooses from; none where the variable cannot be read."""
    try:
        return tuple(parse_route(route))
    except RouteError:
        return ()
