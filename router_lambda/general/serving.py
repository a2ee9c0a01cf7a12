"""Reads what a stage serves from the variables in its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from turnout.protocol.aws.events import is_canary
from turnout.protocol.naming import ALIAS_VARIABLE, LIVE, ROUTER
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry
from turnout.protocol.routing.choice import RouteError, parse_route
from turnout.protocol.routing.packed_choices import find_choice

Reached = tuple[str, str]
"""Model and version; the version is empty where the stage names none."""


@dataclass(frozen=True, slots=True)
class ServedStage:
    """A stage as one event describes it.

    Args:
        name: `prod`.
        base: the prefix of the caller's paths: `/prod`, nothing on a domain of the stage's own, or the base
            path of its mapping, with the stage behind it where the mapping names none.
        origin: scheme and host of the caller's address.
        variables: the stage's, with its canary's over them where the event belongs to the canary.
        is_canary: whether it does.
    """

    name: str
    base: str
    origin: str
    variables: Mapping[str, str]
    is_canary: bool = False

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> ServedStage:
        """The stage that the event came through."""
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
        )

    @property
    def alias(self) -> str:
        """The alias by which its functions are called."""
        return self.variables.get(ALIAS_VARIABLE, LIVE)

    def choice_of(self, model: ModelEntry) -> str:
        """The target of the model's calls without a version: a version, or `router`."""
        return find_choice(self.variables, model.variable)

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


def find_base(path: str, resource: str, parameters: Mapping[str, str]) -> str | None:
    """The caller's path less the resource that it matched; None where it does not end in it.

    `event["path"]` does not say it: behind a custom domain it holds the mapping's base path, and the stage where the
    mapping names none, as `requestContext.path` does. Source: recorded events, localstack/localstack#12296.

    Args:
        path: `requestContext.path`, as the caller sent it.
        resource: `/models/{model}`.
        parameters: the values of its parts in braces, decoded.
    """
    path = path.rstrip("/")
    names = [part[1:-1] if part.startswith("{") else "" for part in resource.strip("/").split("/")]
    for spell in (str, _quote):
        parts = [
            spell(parameters.get(name.rstrip("+"), "")) if name else part
            for name, part in zip(names, resource.strip("/").split("/"), strict=True)
        ]
        rendered = f"/{'/'.join(parts)}".rstrip("/")
        if path.endswith(rendered):
            return path.removesuffix(rendered)
    # In any escaping, each part except a greedy one is one segment of the path.
    segments = path.split("/")
    ours, literals = segments[-len(names) :], resource.strip("/").split("/")
    fits = len(segments) > len(names) and not any(name.endswith("+") for name in names)
    if fits and all(name or part == literal for name, part, literal in zip(names, ours, literals, strict=True)):
        return "/".join(segments[: -len(names)])
    return None


def _quote(text: str) -> str:
    return quote(text, safe="/~")


def reach_all(catalogue: Catalogue, stage: ServedStage) -> dict[Reached, str]:
    """Every version that the stage's calls without a version can reach, and its function; empty where it has none."""
    reached: dict[Reached, str] = {}
    for model in catalogue.models.values():
        reached.update(reach(catalogue, stage, model))
    return reached


def reach(catalogue: Catalogue, stage: ServedStage, model: ModelEntry, version: str = "") -> dict[Reached, str]:
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
