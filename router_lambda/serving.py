"""What a stage serves at this moment, read from the variables that its events carry.

Comes in: an event, entries of the catalogue. Goes out: the stage, and versions with their shares. Called by the
catalogue's pages, by `/v2` and by the answer to whether all is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.catalogue import Catalogue, ModelEntry
from turnout.protocol.routing import ROUTER, RouteError, parse_route

Reached = tuple[str, str]
"""Model and version; the version is empty where the stage names none."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as one event tells it.

    Args:
        name: `prod`.
        base: what stands before our paths in the caller's: `/prod`, or nothing on a domain of the stage's own.
        origin: scheme and host of the caller's address.
        variables: the stage's, with its canary's over them where the event belongs to the canary.
    """

    name: str
    base: str
    origin: str
    variables: Mapping[str, str]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Stage:
        """The stage that the event came through."""
        context = event["requestContext"]
        path, whole = event["path"], context["path"]
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        return cls(
            name=context["stage"],
            base=whole.removesuffix(path) if whole.endswith(path) else f"/{context['stage']}",
            origin=f"{headers.get('x-forwarded-proto', 'https')}://{headers.get('host', '')}",
            variables=event.get("stageVariables") or {},
        )

    @property
    def is_canary(self) -> bool:
        """Whether these are the variables of the canary's share."""
        return self.variables.get("canary") == "true"

    @property
    def alias(self) -> str:
        """The alias by which its functions are called."""
        return self.variables.get("alias", "live")

    def choice_of(self, model: ModelEntry) -> str:
        """What the model's calls without a version reach: a version, or `router`."""
        return self.variables.get(model.variable, "")

    def shares_of(self, model: ModelEntry) -> dict[str, float]:
        """Version -> its percent of the model's calls; empty for a graph, and where the stage names no version."""
        choice = self.choice_of(model)
        if model.is_graph or not choice:
            return {}
        if choice != ROUTER:
            return {choice: 100.0}
        try:
            return parse_route(self.variables.get(model.route_variable, ""))
        except RouteError:
            return {}


def reach_all(catalogue: Catalogue, stage: Stage) -> dict[Reached, str]:
    """Every version that the stage's calls without a version can reach, and its function; empty where it has none."""
    reached: dict[Reached, str] = {}
    for model in catalogue.models.values():
        reached.update(reach(catalogue, stage, model))
    return reached


def reach(catalogue: Catalogue, stage: Stage, model: ModelEntry, version: str = "") -> dict[Reached, str]:
    """The versions that a call of the model can reach; a graph's are those that it calls, and so on."""
    if version:
        return {(model.name, version): catalogue.function_of(model.name, version)}
    if not model.is_graph:
        served = stage.shares_of(model)
        return {(model.name, name): catalogue.function_of(model.name, name) for name in served} or {
            (model.name, ""): ""
        }
    reached: dict[Reached, str] = {}
    for name, called in model.calls:
        reached.update(reach(catalogue, stage, catalogue.models[name], called))
    return reached
