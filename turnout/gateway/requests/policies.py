"""A project's settings for asynchronous requests, as the queue needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from turnout.manifest.access import Cors
from turnout.manifest.values import Asynchronous
from turnout.plan.values import INTEGRATION_TIMEOUT_MS, Plan
from turnout.protocol.naming import split_function_name

MB = 1024 * 1024

SYNCHRONOUS_S = INTEGRATION_TIMEOUT_MS / 1000
"""Time limit of a run of a version without `async: true`."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The settings of the served plan.

    Args:
        stages: name of a stage that accepts asynchronous requests -> its settings.
        timeouts_s: function -> time limit of a run.
        cors: name of a stage with `cors` -> the pages that may call it.
    """

    stages: Mapping[str, Asynchronous] = field(default_factory=dict)
    timeouts_s: Mapping[str, float] = field(default_factory=dict)
    cors: Mapping[str, Cors] = field(default_factory=dict)

    def timeout_s(self, function: str) -> float:
        """Time limit of a run of a function."""
        return self.timeouts_s.get(function, SYNCHRONOUS_S)

    @property
    def max_stored_bytes(self) -> dict[str, int]:
        """Stage -> the bytes that it may store."""
        return {name: stage.max_stored_mb * MB for name, stage in self.stages.items()}


def make_policies(plan: Plan) -> Policies:
    """Return the policies of a plan."""
    stages = {
        stage.name: stage.asynchronous for api in plan.apis for stage in api.stages if stage.asynchronous is not None
    }
    return Policies(
        stages,
        {function.name: plan.run_limit_s(function) for function in plan.unpooled_functions} if stages else {},
        {stage.name: api.cors for api in plan.apis for stage in api.stages if api.cors is not None},
    )


def called_by(function: str, path: str) -> tuple[str, str]:
    """Return the model and the version that a call reaches, each empty if a router decides it."""
    model, version = split_function_name(function)
    if version == "router":
        version = ""
    if not model:
        parts = path.strip("/").split("/")
        model = parts[parts.index("models") + 1] if "models" in parts[:-1] else ""
        version = parts[parts.index("versions") + 1] if "versions" in parts[:-1] else ""
    return model, version
