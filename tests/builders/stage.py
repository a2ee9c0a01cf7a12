"""A stage in memory that applies UpdateStage's patch operations as API Gateway does, and an observed traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from turnout.canary.judging.observed import Observation
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.canary.rollout.stage_control import LiveCanary, StageControlError, StageOperation, StageState
from turnout.plan.served_by import Watched
from turnout.plan.values import StagePlan


class FakeStage:
    """Records all of its states, so that a test sees what traffic saw; a state never names a missing table."""

    def __init__(self, plan: StagePlan, deployment_id: str = "base", url: str = "http://127.0.0.1:1") -> None:
        canary = plan.canary
        self._url = url
        self.tables = dict(plan.tables)
        self.states = [
            StageState(
                deployment_id,
                dict(plan.variables),
                canary and LiveCanary(canary.percent, dict(canary.overrides), deployment_id),
            )
        ]

    def read(self) -> StageState:
        state = self.states[-1]
        return replace(state, tables={name: self.tables[name] for name in state.named_tables()})

    def update(self, operations: Sequence[StageOperation]) -> None:
        state = self.states[-1]
        for operation in operations:
            state = obey(state, operation)
        assert {*state.named_tables()} <= {*self.tables}
        self.states.append(state)

    def store(self, tables: Mapping[str, str]) -> None:
        self.tables |= tables

    def url(self) -> str:
        return self._url


class FakeFunctions:
    """All functions exist, except those that a test removes."""

    def __init__(self) -> None:
        self.missing: set[str] = set()

    def has(self, name: str) -> bool:
        return name not in self.missing


class FakeTraffic:
    """A source with configured observations."""

    def __init__(self, answer: Observation | ObservationError | None = None) -> None:
        self.answer = answer
        self.models: dict[str, Observation] = {}
        self.starts = 0

    def start(self, stage: str, watched: Sequence[Watched]) -> ObservationStart:
        if isinstance(self.answer, ObservationError):
            raise self.answer
        self.starts += 1
        return ObservationStart(float(self.starts))

    def observe(self, stage: str, watched: Sequence[Watched], since: ObservationStart) -> Observation:
        for pair in watched:
            if pair.model in self.models:
                return self.models[pair.model]
        if not isinstance(self.answer, Observation):
            raise self.answer or ObservationError("nobody counts")
        return self.answer


def obey(state: StageState, operation: StageOperation) -> StageState:
    """Return the state after one operation; operations that API Gateway does not know are rejected."""
    canary = state.canary or LiveCanary(0.0, {}, state.deployment_id)
    variables, overrides = dict(state.variables), dict(canary.overrides)
    name = operation["path"].rpartition("/")[2]
    match operation["op"], operation["path"].rpartition("/")[0], operation.get("value", operation.get("from")):
        case "replace", "/variables", str(value):
            return StageState(state.deployment_id, {**variables, name: value}, state.canary)
        case "remove", "/variables", None:
            del variables[name]
            return StageState(state.deployment_id, variables, state.canary)
        case "replace", "/canarySettings/stageVariableOverrides", str(value):
            canary = LiveCanary(canary.percent, {**overrides, name: value}, canary.deployment_id)
        case "remove", "/canarySettings/stageVariableOverrides", None:
            del overrides[name]
            canary = LiveCanary(canary.percent, overrides, canary.deployment_id)
        case "replace", "/canarySettings", str(value) if name == "percentTraffic":
            canary = LiveCanary(float(value), overrides, canary.deployment_id)
        case "replace", "/canarySettings", "false" if name == "useStageCache":
            pass
        case "remove", "", None if name == "canarySettings" and state.canary:
            return StageState(state.deployment_id, variables)
        case "copy", "", "/canarySettings/deploymentId" if name == "deploymentId":
            return StageState(canary.deployment_id, variables, canary)
        case _:
            raise StageControlError(f"Invalid operation: {dict(operation)}")
    return StageState(state.deployment_id, variables, canary)
