"""The judgement of canaries: the keys of `defaults.canary` and of a stage's `canary`, as frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class OutputRule:
    """When two values of an output agree.

    Args:
        measure: `equal`, `argmax`, `absolute`, `relative` or `cosine`.
        bound: the largest difference, absolute or relative, or the least cosine; unused for the other two.
    """

    measure: str
    bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement that is required of the two versions.

    Args:
        percent: the share of requests that both versions answer, 0-100.
        floor: the share of those that must agree, 0-1.
        rules: output -> its rule; an output without one has the rule of its datatype.
    """

    percent: float
    floor: float
    rules: Mapping[str, OutputRule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A canary's steps and checks.

    Args:
        strategy: `canary`, `linear` or `all_at_once`.
        steps: the canary's shares in order, increasing; empty if its `percent` is the only step.
        step_percent: the increase of each step of `linear`.
        bake_minutes: how long each step is watched.
        confidence: the required confidence of the comparison, 0.5-1.
        alarms: names of CloudWatch alarms.
        auto_rollback: whether a failed canary is rolled back automatically.
        agreement: None if outputs are not compared.
    """

    strategy: str = "canary"
    steps: tuple[float, ...] = ()
    step_percent: float = 10.0
    bake_minutes: float = 10.0
    confidence: float = 0.95
    alarms: tuple[str, ...] = ()
    auto_rollback: bool = True
    agreement: Agreement | None = None


def build_judgement(fields: Mapping[str, Any]) -> Judgement:
    """Return the judgement of a valid tree; other keys are ignored.

    Only `canary` has steps: a stage with another strategy does not use those of `defaults.canary`.
    """
    readers: dict[str, Callable[[Any], Any]] = {
        "strategy": str,
        "steps": _numbers,
        "step_percent": float,
        "bake_minutes": float,
        "confidence": float,
        "alarms": tuple,
        "auto_rollback": bool,
        "agreement": _agreement,
    }
    if fields.get("strategy", "canary") != "canary":
        del readers["steps"]
    return Judgement(**{key: read(fields[key]) for key, read in readers.items() if key in fields})


def _numbers(values: list[float]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _agreement(fields: Mapping[str, Any]) -> Agreement:
    rules = {output: _rule(rule) for output, rule in fields.get("rules", {}).items()}
    return Agreement(float(fields["percent"]), float(fields["floor"]), rules)


def _rule(rule: str | Mapping[str, float]) -> OutputRule:
    if isinstance(rule, str):
        return OutputRule(rule)
    ((measure, bound),) = rule.items()
    return OutputRule(measure, float(bound))
