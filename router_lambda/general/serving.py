"""Reads what a stage serves from the variables in events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.aws.events import is_canary
from turnout.protocol.aws.paths import find_base
from turnout.protocol.naming import ALIAS_VARIABLE, LIVE, ROUTER
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry
from turnout.protocol.routing.choice import RouteError, parse_route
from turnout.protocol.routing.choice_tables import FindTable, TableError, no_tables, refuse_unreadable
from turnout.protocol.routing.packed_choices import find_choice

Reached = tuple[str, str]
"""Model and version; the version is empty if the stage names none."""


@dataclass(frozen=True, slots=True)
class ServedStage:
    """A stage as one event describes it.

    Args:
        name: the stage's name, `prod`.
        base: the prefix of the caller's paths: `/prod`; empty on a domain of the stage's own; or the base path of its
            mapping, followed by the stage if the mapping names none.
        origin: scheme and host of the caller's address.
        variables: the stage's variables, with the canary's overrides if the event belongs to the canary.
        is_canary: whether the event belongs to the canary.
        tables: finds the stage's table of choices, if it has one.
    """

    name: str
    base: str
    origin: str
    variables: Mapping[str, str]
    is_canary: bool = False
    tables: FindTable = no_tables

    @classmethod
    def of(cls, event: Mapping[str, Any], tables: FindTable = no_tables) -> ServedStage:
        """Return the stage through which the event came."""
        context = event["requestContext"]
        base = find_base(context["path"], event["resource"], event.get("pathParameters") or {})
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        host = headers.get("host") or context.get("domainName", "")
        return cls(
            name=context["stage"],
            base=f"/{context['stage']}" if base is None else base,
            origin=f"{headers.get('x-forwarded-proto', 'https')}://{host}",
            variables=event.get("stageVariables") or {},
            is_canary=is_canary(event),
            tables=tables,
        )

    @property
    def alias(self) -> str:
        """The alias through which its functions are called."""
        return self.variables.get(ALIAS_VARIABLE, LIVE)

    def choice_of(self, model: ModelEntry) -> str:
        """Return the target of the model's calls without a version: a version, or `router`.

        Raises:
            RequestError: CHOICES_UNREADABLE.
        """
        try:
            return find_choice(self.variables, model.variable, self.tables)
        except TableError as error:
            raise refuse_unreadable(error) from error

    def shares_of(self, model: ModelEntry) -> dict[str, float]:
        """Return version -> its percentage of the model's calls; empty for a graph or without a version."""
        choice = self.choice_of(model)
        if model.is_graph or not choice:
            return {}
        if choice != ROUTER:
            return {choice: 100.0}
        try:
            return parse_route(self.variables.get(model.route_variable, ""))
        except RouteError:
            return {}


def reach_all(catalogue: Catalogue, stage: ServedStage) -> dict[Reached, str]:
    """Return the versions that the stage's calls without a version can reach, and their functions."""
    reached: dict[Reached, str] = {}
    for model in catalogue.models.values():
        reached.update(reach(catalogue, stage, model))
    return reached


def reach(catalogue: Catalogue, stage: ServedStage, model: ModelEntry, version: str = "") -> dict[Reached, str]:
    """Return the versions that the stage's calls without a version can reach, and their functions; empty if none."""
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
