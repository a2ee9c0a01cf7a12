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
        bound: the largest difference, absolute or relative, or the least cosine; nothing for the other two.
    """

    measure: str
    bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement that is required of the two versions.

    Args:
        percent: the share of the requests that both versions answer, 0-100.
        floor: the part of those, 0-1, that must agree.
        rules: output -> its rule; an output without one has the rule that fits its datatype.
    """

    percent: float
    floor: float
    rules: Mapping[str, OutputRule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A canary's steps and checks.

    Args:
        strategy: `canary`, `linear` or `all_at_once`.
        steps: the canary's shares one after the other, rising; empty where its `percent` is the one step.
        step_percent: what a step of `linear` adds.
        bake_minutes: how long each step is watched.
        confidence: 0.5-1: how sure the comparison must be.
        alarms: CloudWatch alarms by name.
        auto_rollback: whether a failed canary is rolled back by itself.
        agreement: or None where outputs are not compared.
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
    """The judgement of a tree in which nothing is wrong; keys of other things are passed over.

    Steps are for `canary` alone: a stage with another strategy does not take over those of `defaults.canary`.
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
