"""Makes the `routes.json` in a router's zip, the table of the models that it calls."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.manifest.parser import Manifest, Model
from turnout.plan.values import Plan
from turnout.protocol.naming import function_prefix, variable_name
from turnout.protocol.routing.graph_nodes import calls_of
from turnout.protocol.routing.route_table import GraphRoute, ModelRoute, RouteTable, VersionRoute
from turnout.protocol.tensors.datatypes import Signature


def make_route_table(manifest: Manifest, plan: Plan, model: str, *, pooled: bool = True) -> RouteTable:
    """Return the table of one model's router: the model and, for a graph, all models that it reaches.

    Args:
        manifest: manifest with the models.
        plan: plan of the manifest.
        model: whose router it is.
        pooled: whether pooled versions are called by their pool's function, as on AWS.
    """
    reached = find_reached(manifest, model)
    with_inputs = manifest.model(model).graph is not None
    signatures = {(version.version.model, version.version.name): version.signature for version in plan.versions}
    graphs = {graph.model: graph.signature for graph in plan.graphs}
    return RouteTable(
        model=model,
        prefix=function_prefix(plan.platform, plan.stack),
        models={
            name: _make_model(manifest.model(name), signatures if with_inputs else {}, graphs, pooled=pooled)
            for name in reached
        },
        override_stages=frozenset(stage.name for stage in manifest.stages if stage.version_override),
    )


def find_reached(manifest: Manifest, model: str) -> tuple[str, ...]:
    """Return the model and all that its graph calls, directly or through other graphs; each once, callers first."""
    reached: dict[str, None] = {}
    waiting = [model]
    while waiting:
        name = waiting.pop(0)
        if name not in reached:
            reached[name] = None
            waiting += _called(manifest.model(name))
    return tuple(reached)


def _called(model: Model) -> Iterator[str]:
    return (call.model for _, call in calls_of(model.graph)) if model.graph is not None else iter(())


def _make_model(
    model: Model, signatures: dict[tuple[str, str], Signature], graphs: dict[str, Signature], *, pooled: bool
) -> ModelRoute:
    return ModelRoute(
        variable=variable_name(model.name),
        versions={
            version.name: VersionRoute(
                version.timeout_s,
                _input_names(signatures.get((model.name, version.name))),
                version.pool if pooled else "",
            )
            for version in model.versions
        },
        sticky=model.routing.sticky,
        shadow=model.routing.shadow_version,
        shadow_percent=model.routing.shadow_percent,
        fallback=model.routing.fallback,
        graph=None if model.graph is None else GraphRoute(model.graph, graphs[model.name].to_json()),
    )


def _input_names(signature: Signature | None) -> tuple[str, ...]:
    return () if signature is None else tuple(tensor.name for tensor in signature.inputs)
