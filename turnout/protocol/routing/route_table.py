"""A router's table of the models that it calls, stored in its zip as `routes.json`.

`turnout.packaging.route_tables` makes it, and the routers read it. The current choice is not in it, but in the stage's
variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.protocol.routing.graph_nodes import Node, build_node, spell_node
from turnout.protocol.routing.sticky import Sticky


@dataclass(frozen=True, slots=True)
class VersionRoute:
    """A version that may be called.

    Args:
        timeout_s: timeout of its function.
        inputs: its input tensors; empty if no graph calls it.
        pool: pool of its function; empty if it has a function of its own.
    """

    timeout_s: int
    inputs: tuple[str, ...] = ()
    pool: str = ""


@dataclass(frozen=True, slots=True)
class GraphRoute:
    """A model that is a graph.

    Args:
        node: its outermost node.
        signature: its inputs and outputs, as made by `Signature.to_json`; read only if numpy is installed.
    """

    node: Node
    signature: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """A model that may be called.

    Args:
        variable: the stage variable with its version; the one with `Route` at the end has a router's choice.
        versions: by name; empty for a graph.
        sticky: where requests contain the callers' keys.
        shadow: the version that gets copies, or empty.
        shadow_percent: percentage of copied calls, 0-100.
        fallback: the version that answers when another fails, or empty.
        graph: its graph, or None.
    """

    variable: str
    versions: Mapping[str, VersionRoute] = field(default_factory=dict)
    sticky: Sticky | None = None
    shadow: str = ""
    shadow_percent: float = 0.0
    fallback: str = ""
    graph: GraphRoute | None = None


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The table of one router.

    Args:
        model: the model whose router it is.
        prefix: start of every function's name; not in the JSON, since the router's own name contains it.
        models: the model and, for a graph, all models that it reaches.
        override_stages: the stages in which a caller may choose the version.
    """

    model: str
    prefix: str
    models: Mapping[str, ModelRoute]
    override_stages: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`."""
        return {
            "model": self.model,
            "models": {name: _spell_model(route) for name, route in self.models.items()},
            "override_stages": sorted(self.override_stages),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], *, prefix: str) -> RouteTable:
        """Return the table that `to_json` wrote."""
        return cls(
            model=fields["model"],
            prefix=prefix,
            models={name: _read_model(route) for name, route in fields["models"].items()},
            override_stages=frozenset(fields["override_stages"]),
        )


def _spell_model(route: ModelRoute) -> dict[str, Any]:
    graph = route.graph
    return {
        "variable": route.variable,
        "versions": {
            name: [version.timeout_s, list(version.inputs), *([version.pool] if version.pool else [])]
            for name, version in route.versions.items()
        },
        "sticky": None if route.sticky is None else [route.sticky.kind, route.sticky.name],
        "shadow": route.shadow,
        "shadow_percent": route.shadow_percent,
        "fallback": route.fallback,
        "graph": None if graph is None else [spell_node(graph.node), dict(graph.signature)],
    }


def _read_model(fields: Mapping[str, Any]) -> ModelRoute:
    return ModelRoute(
        variable=fields["variable"],
        versions={
            name: VersionRoute(timeout_s, tuple(inputs), *pool)
            for name, (timeout_s, inputs, *pool) in fields["versions"].items()
        },
        sticky=None if fields["sticky"] is None else Sticky(*fields["sticky"]),
        shadow=fields["shadow"],
        shadow_percent=fields["shadow_percent"],
        fallback=fields["fallback"],
        graph=None if fields["graph"] is None else GraphRoute(build_node(fields["graph"][0]), fields["graph"][1]),
    )
