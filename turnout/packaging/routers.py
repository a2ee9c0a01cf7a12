"""Collects the contents of a router's zip except bytecode: code, the protocol, and the table or the catalogue."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from turnout.layout import router_lambda_package
from turnout.packaging.catalogue import make_catalogue
from turnout.packaging.contents import modules_below, protocol_files, to_json
from turnout.packaging.route_tables import make_route_table
from turnout.plan.values import Plan
from turnout.project.project import Project

ROUTER_HANDLER = "router_lambda.entry.handler"
"""The handler in a router's zip."""


@dataclass(frozen=True, slots=True)
class RouterInputs:
    """The parts of a router's zip.

    Args:
        package: the package's name, `iris_router`.
        architecture: `arm64` or `x86_64`.
        files: `routes.json`, or `catalogue.json` and the documents of the general router; the same in every stack.
        with_layer: whether it computes with tensors, and so needs the layer of the models' functions.
    """

    package: str
    architecture: str
    files: Mapping[str, bytes]
    with_layer: bool


def find_routers(project: Project, plan: Plan) -> Iterator[RouterInputs]:
    """Return every router of the plan."""
    graphs = {graph.model for graph in plan.graphs}
    for function in plan.functions:
        if function.kind == "router":
            files = {"routes.json": to_json(make_route_table(project.manifest, plan, function.model).to_json())}
        elif function.kind == "general_router":
            catalogue = make_catalogue(project, plan)
            documents = {name: text.encode() for name, text in catalogue.document_files().items()}
            files = {"catalogue.json": to_json(catalogue.to_json()), **documents}
        else:
            continue
        is_graph = function.model in graphs
        yield RouterInputs(function.package, function.settings.architecture, files, with_layer=is_graph)


def router_files() -> dict[str, Path]:
    """Return archive name -> file for the routers' code and the protocol: the same in every router's zip."""
    folder = Path(str(importlib.import_module(router_lambda_package()).__file__)).parent
    return protocol_files() | {f"router_lambda/{name}": path for name, path in modules_below(folder).items()}
