"""The content of the pages for one edition: each stage with its document, each model with its versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from turnout.gateway.rules.stages import StageSettings
from turnout.gateway.rules.stored_tables import find_tables_folder
from turnout.openapi.document import build_document
from turnout.openapi.inference_operations import VERBS, operation_id
from turnout.openapi.public_document import publish_document
from turnout.plan.values import Api, Plan, ServedGraph, ServedVersion, StagePlan
from turnout.project.project import CACHE_DIR, Project
from turnout.protocol.naming import GRAPH, ROUTER, route_variable_name, variable_name
from turnout.protocol.routing.choice import RouteError, parse_route
from turnout.protocol.routing.choice_tables import FindTable, TableError, no_tables, open_folder
from turnout.protocol.routing.packed_choices import find_choice
from turnout.protocol.tensors.datatypes import Signature


@dataclass(frozen=True, slots=True)
class ShownOperation:
    """One operation of the document, with its path and method."""

    method: str
    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class ShownStage:
    """One stage.

    Args:
        plan: the stage from the plan.
        api: the API that it belongs to.
        document: the API's document, as API Gateway reads it.
        live: the stage's current settings.
        tables: finds the tables of choices that its variables name.
    """

    plan: StagePlan
    api: Api
    document: Mapping[str, Any]
    live: Callable[[], StageSettings | None]
    tables: FindTable = no_tables

    @cached_property
    def operations(self) -> Mapping[str, ShownOperation]:
        """Return the operations that callers see, by their ids."""
        paths = publish_document(self.document)["paths"]
        return {
            body["operationId"]: ShownOperation(method.upper(), path, body)
            for path, item in paths.items()
            for method, body in item.items()
        }

    def shares_of(self, model: str) -> dict[str, str]:
        """Return version -> its current share of the stage's calls that name no version."""
        settings = self.live()
        variables = self.plan.variables if settings is None else settings.variables
        canary = self.plan.canary if settings is None else settings.canary
        shares = _read_shares(variables, model, self.tables)
        if canary is not None:
            changed = _read_shares({**variables, **canary.overrides}, model, self.tables)
            shares |= {version: f"canary {canary.percent:g}%" for version in changed if version not in shares}
        return shares

    def inference(self, model: str, version: str = "", kind: str = "inference") -> ShownOperation | None:
        """Return the operation that calls a version, or the one that leaves the version to the stage."""
        return self.operations.get(operation_id(model, version, VERBS[kind]))


def _read_shares(variables: Mapping[str, str], model: str, tables: FindTable) -> dict[str, str]:
    try:
        served = find_choice(variables, variable_name(model), tables)
    except TableError:
        return {}
    if served != ROUTER:
        return {served: "served"} if served else {}
    try:
        weights = parse_route(variables.get(route_variable_name(model), ""))
    except RouteError:
        return {}
    return {version: "served" if weight >= 100 else f"{weight:g}%" for version, weight in weights.items()}


@dataclass(frozen=True)
class Shown:
    """The content for one edition.

    Args:
        project: the project.
        plan: the project's plan.
        stages: by name, in the order of models.yaml.
    """

    project: Project
    plan: Plan
    stages: Mapping[str, ShownStage]

    @cached_property
    def versions(self) -> Mapping[str, list[ServedVersion]]:
        """Return model -> its versions."""
        versions: dict[str, list[ServedVersion]] = {}
        for version in self.plan.versions:
            versions.setdefault(version.version.model, []).append(version)
        return versions

    @cached_property
    def graphs(self) -> Mapping[str, ServedGraph]:
        """Return model -> its graph."""
        return {graph.model: graph for graph in self.plan.graphs}

    def models(self) -> Iterator[tuple[str, str, int]]:
        """Return each model with its description and its number of versions; a graph has none."""
        for model in (*self.versions, *self.graphs):
            yield model, self.plan.descriptions.get(model, ""), len(self.versions.get(model, ()))

    def signature_of(self, model: str, version: str) -> Signature:
        """Return the signature of a version or a graph."""
        if version == GRAPH:
            return self.graphs[model].signature
        return next(candidate.signature for candidate in self.versions[model] if candidate.version.name == version)


def make_shown(
    project: Project,
    plan: Plan,
    documents: Mapping[str, Mapping[str, Any]],
    live: Callable[[str], StageSettings | None],
) -> Shown:
    """Return the content of the pages for an edition.

    Args:
        project: the project.
        plan: the project's plan.
        documents: the name of an API -> its document.
        live: returns a stage's current settings, by its name.
    """
    tables = open_folder(find_tables_folder(project.manifest.path.parent / CACHE_DIR), plan.tables)
    rows = {stage.name: (stage, api) for api in plan.apis for stage in api.stages}
    if plan.shared:
        examples = project.first_requests
        documents = {api.name: build_document(plan, plan.as_called(api), examples=examples) for api in plan.apis}
    return Shown(
        project,
        plan,
        {
            entry.name: ShownStage(
                *rows[entry.name], documents[rows[entry.name][1].name], partial(live, entry.name), tables
            )
            for entry in project.manifest.stages
        },
    )
