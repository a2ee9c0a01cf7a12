"""The catalogue: what the general router knows of everything that there is to be called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from turnout import __version__
from turnout.artifacts.example_request import EXAMPLE_BYTES
from turnout.manifest.parser import Manifest, Model, Routing
from turnout.openapi.document import build_document, render_document
from turnout.openapi.public_document import publish_document
from turnout.plan.values import Plan, ServedGraph, ServedVersion
from turnout.project.document_examples import read_document_examples
from turnout.project.project import Project
from turnout.protocol.naming import function_prefix, route_variable_name, variable_name
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry, VersionEntry
from turnout.protocol.routing.graph_nodes import calls_of
from turnout.runtimes.registry import RUNTIMES


def make_catalogue(project: Project, plan: Plan) -> Catalogue:
    """Everything that a plan deploys."""
    manifest = project.manifest
    served = {(row.version.model, row.version.name): row for row in plan.versions}
    graphs = {row.model: row for row in plan.graphs}
    models = (_model(manifest, model, served, graphs.get(model.name)) for model in manifest.models)
    return Catalogue(
        prefix=function_prefix(plan.platform, plan.stack),
        platform=plan.platform,
        release=__version__,
        models={model.name: model for model in models},
        documents=dict(_documents(manifest, plan)),
    )


def _model(
    manifest: Manifest,
    model: Model,
    served: dict[tuple[str, str], ServedVersion],
    graph: ServedGraph | None,
) -> ModelEntry:
    versions = (_version(manifest, served[model.name, version.name]) for version in model.versions)
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


def _version(manifest: Manifest, served: ServedVersion) -> VersionEntry:
    version = served.version
    return VersionEntry(
        name=version.name,
        description=version.description,
        sha256=served.sha256,
        size_bytes=served.size_bytes,
        signature=served.signature.to_json(),
        platform=RUNTIMES[version.runtime].platform,
        examples=_read_examples(manifest, version.examples) if version.examples else (),
    )


def spell_routing(routing: Routing) -> dict[str, Any]:
    """A model's `routing` as models.yaml has it; what was not asked for is left out."""
    sticky, shadow = routing.sticky, routing.shadow_version
    return {
        **({"sticky": {sticky.kind: sticky.name or True}} if sticky else {}),
        **({"shadow": {"version": shadow, "percent": routing.shadow_percent}} if shadow else {}),
        **({"fallback": routing.fallback} if routing.fallback else {}),
    }


def _read_examples(manifest: Manifest, path: str) -> tuple[dict[str, Any], ...]:
    """The rows of an examples.json as they stand there, those that fit on a page."""
    rows = orjson.loads((manifest.path.parent / path).read_bytes())
    return tuple(row for row in rows if len(orjson.dumps(row)) <= EXAMPLE_BYTES)


def _documents(manifest: Manifest, plan: Plan) -> Iterator[tuple[str, str]]:
    """Stage -> its document; named as the platform is, so that every stack has the same."""
    examples = read_document_examples(manifest)
    for api in plan.apis:
        document = publish_document(build_document(plan, api, examples=examples))
        document["info"] = {**document["info"], "title": plan.platform}
        text = render_document(document).decode()
        for stage in api.stages:
            yield stage.name, text
