"""Lambda's entry point: makes the router that the zip's files describe, at init.

It uses no event loop: the routers' coroutines never suspend here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.protocol.aws.events import LambdaHandler
from turnout.protocol.aws_requests.stored_requests import StoredRequests
from turnout.protocol.naming import general_router_name, router_name
from turnout.protocol.routing.choice_tables import FindTable
from turnout.protocol.routing.invocation import Invoke
from turnout.protocol.routing.route_table import RouteTable

from .invoke import LambdaInvoke, find_endpoint
from .router import Router
from .tables import open_tables
from .tasks import ThreadTasks, run_to_end

MARGIN_S = 0.3
"""Time kept back from Lambda's timeout, so that the router, not Lambda, reports a timeout to the caller."""


def load_handler(folder: Path, environ: Mapping[str, str]) -> LambdaHandler:
    """Return the function that Lambda calls.

    Args:
        folder: the folder with the zip's files.
        environ: Lambda's environment; `AWS_ENDPOINT_URL_LAMBDA` replaces the region's own endpoint.
    """
    region = environ["AWS_REGION"]
    invoke = LambdaInvoke(environ.get("AWS_ENDPOINT_URL_LAMBDA") or find_endpoint(region), region, environ=environ)
    function, stored = environ["AWS_LAMBDA_FUNCTION_NAME"], StoredRequests(environ)
    tables = open_tables(environ)
    routes = folder / "routes.json"
    if not routes.exists():
        return _make_handler(_load_general_router(folder, function, invoke, stored, tables))
    fields = json.loads(routes.read_bytes())
    table = RouteTable.from_json(fields, prefix=function.removesuffix(router_name("", fields["model"])))
    handle = _make_handler(Router(table, invoke, tasks=ThreadTasks(), tables=tables))
    # A graph reads its body and writes its answer; other routers hand both on.
    is_graph = table.models[table.model].graph is not None
    return stored.accepting(stored.running(handle) if is_graph else handle, function, table.model)


def _make_handler(router: Any) -> LambdaHandler:
    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        left_s = context.get_remaining_time_in_millis() / 1000
        return run_to_end(router.answer(event, time.monotonic() + left_s - MARGIN_S))

    return handle


def _load_general_router(folder: Path, function: str, invoke: Invoke, stored: StoredRequests, tables: FindTable) -> Any:
    from turnout.protocol.routing.catalogue import Catalogue

    from .general.router import GeneralRouter

    fields = json.loads((folder / "catalogue.json").read_bytes())
    prefix = function.removesuffix(general_router_name(""))
    catalogue = Catalogue.from_json(fields, prefix, lambda name: (folder / name).read_text("utf-8"))

    def find_requests() -> Any:
        store = stored.find()
        if store is None:
            return None
        from .requests.api import RequestPaths

        return RequestPaths(store, catalogue)

    return GeneralRouter(catalogue, invoke, tasks=ThreadTasks(), requests=find_requests, tables=tables)


handler = load_handler(Path(os.environ["LAMBDA_TASK_ROOT"]), os.environ) if "LAMBDA_TASK_ROOT" in os.environ else None
"""The router as Lambda calls it: takes a proxy event and returns a proxy response."""
