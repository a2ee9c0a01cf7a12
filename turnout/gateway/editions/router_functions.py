"""The plan's routers, bound to the code that Lambda runs for them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from turnout.gateway.functions.in_process.hosted_router import Answering, RouterCode
from turnout.layout import router_lambda_package
from turnout.packaging.catalogue import make_catalogue
from turnout.packaging.route_tables import make_route_table
from turnout.plan.values import Plan
from turnout.project.project import Project
from turnout.protocol.routing.invocation import Invoke


def make_router_codes(project: Project, plan: Plan) -> Iterator[RouterCode]:
    """Every router and the general one."""
    for function in plan.functions:
        if function.kind == "router":
            table = make_route_table(project.manifest, plan, function.model)
            is_graph = project.manifest.model(function.model).graph is not None
            yield RouterCode(function, partial(_make_router, table), computes=is_graph)
        elif function.kind == "general_router":
            yield RouterCode(function, partial(_make_general, project, plan), computes=True)


def _make_router(table: Any, invoke: Invoke) -> Answering:
    made: Answering = importlib.import_module(f"{router_lambda_package()}.router").Router(table, invoke)
    return made


def _make_general(project: Project, plan: Plan, invoke: Invoke) -> Answering:
    code = importlib.import_module(f"{router_lambda_package()}.general.router")
    made: Answering = code.GeneralRouter(make_catalogue(project, plan), invoke)
    return made
