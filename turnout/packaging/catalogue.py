"""Makes the catalogue: the general router's description of everything that can be called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from turnout import __version__
from turnout.artifacts.example_request import EXAMPLE_BYTES
from turnout.artifacts.examples import Example
from turnout.manifest.parser import Model, Routing
from turnout.openapi.document import build_document, render_document
from turnout.openapi.public_document import publish_document
from turnout.plan.values import Plan, ServedGraph, ServedVersion
from turnout.project.project import Project
from turnout.protocol.naming import function_prefix, route_variable_name, variable_name
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry, VersionEntry
from turnout.protocol.routing.graph_nodes import calls_of
from turnout.runtimes.registry import RUNTIMES


def make_catalogue(
    project: Project,
    plan: Plan,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    pooled: bool = True,
) -> Catalogue:
    """Return the catalogue of everything that a plan deploys.

    Args:
        project: the manifest and its artifacts.
        plan: the plan of the project.
        documents: name of each API whose document is built already -> its document.
        pooled: whether pooled versions are called by their pool's function, as on AWS.
    """
    manifest = project.manifest
    served = {(version.version.model, version.version.name): version for version in plan.versions}
    graphs = {graph.model: graph for graph in plan.graphs}
    models = (_model(project, model, served, graphs.get(model.name), pooled=pooled) for model in manifest.models)
    return Catalogue(
        prefix=function_prefix(plan.platform, plan.stack),
        platform=plan.platform,
        release=__version__,
        models={model.name: model for model in models},
        documents=dict(_documents(project, plan, documents)),
    )


def _model(
    project: Project,
    model: Model,
    served: dict[tuple[str, str], ServedVersion],
    graph: ServedGraph | None,
    *,
    pooled: bool,
) -> ModelEntry:
    versions = (_version(project, served[model.name, version.name], pooled=pooled) for version in model.versions)
    return ModelEntry(
        name=model.name,
        variable=variable_name(model.name),
        route_variable=route_variable_name(model.name),
        versions={version.name: version for version in versions},
        description=model.description,
        routing=spell_routing(model.routing),
        signature={} if graph is None else graph.signature.to_json(),
        calls=()
        if graph is None
        else tuple(dict.fromkeys((call.model, call.version) for _, call in calls_of(graph.node))),
    )


def _version(project: Project, served: ServedVersion, *, pooled: bool) -> VersionEntry:
    version = served.version
    return VersionEntry(
        name=version.name,
        description=version.description,
        sha256=served.sha256,
        size_bytes=served.size_bytes,
        signature=served.signature.to_json(),
        platform=RUNTIMES[version.runtime].platform,
        examples=_short_examples(project.examples_of(version)),
        source=version.source.to_json() if version.source else {},
        pool=version.pool if pooled else "",
    )


def spell_routing(routing: Routing) -> dict[str, Any]:
    """Return a model's `routing` as models.yaml has it, without keys that are not set."""
    sticky, shadow = routing.sticky, routing.shadow_version
    return {
        **({"sticky": {sticky.kind: sticky.name or True}} if sticky else {}),
        **({"shadow": {"version": shadow, "percent": routing.shadow_percent}} if shadow else {}),
        **({"fallback": routing.fallback} if routing.fallback else {}),
    }


def _short_examples(examples: Iterable[Example]) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of an examples.json that fit on a page, unchanged."""
    return tuple(example.written for example in examples if len(orjson.dumps(example.written)) <= EXAMPLE_BYTES)


def _documents(
    project: Project, plan: Plan, documents: Mapping[str, Mapping[str, Any]] | None
) -> Iterator[tuple[str, str]]:
    """Return each stage's document; it is named after the platform, so every stack has the same."""
    for api in plan.apis:
        if documents and not plan.shared:
            document = documents[api.name]
        else:
            document = build_document(plan, plan.as_called(api), examples=project.first_requests)
        published = publish_document(document)
        published["info"] = {**published["info"], "title": plan.platform}
        text = render_document(published).decode()
        for stage in api.stages:
            yield stage.name, text
