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
from turnout.protocol.aws.regions import dns_suffix
from turnout.protocol.naming import general_router_name, router_name
from turnout.protocol.routing.invocation import Invoke
from turnout.protocol.routing.route_table import RouteTable

from .invoke import LambdaInvoke
from .router import Router
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
    router = _load_router(folder, environ["AWS_LAMBDA_FUNCTION_NAME"], invoke)

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        left_s = context.get_remaining_time_in_millis() / 1000
        return run_to_end(router.answer(event, time.monotonic() + left_s - MARGIN_S))

    return handle


def _load_router(folder: Path, function: str, invoke: Invoke) -> Any:
    routes = folder / "routes.json"
    if routes.exists():
        fields = json.loads(routes.read_bytes())
        table = RouteTable.from_json(fields, prefix=function.removesuffix(router_name("", fields["model"])))
        return Router(table, invoke, tasks=ThreadTasks())
    from turnout.protocol.routing.catalogue import Catalogue

    from .general.router import GeneralRouter

    fields = json.loads((folder / "catalogue.json").read_bytes())
    catalogue = Catalogue.from_json(fields, prefix=function.removesuffix(general_router_name("")))
    return GeneralRouter(catalogue, invoke, tasks=ThreadTasks())


def find_endpoint(region: str) -> str:
    """Return Lambda's endpoint of a region."""
    return f"https://lambda.{region}.{dns_suffix(region)}"


handler = load_handler(Path(os.environ["LAMBDA_TASK_ROOT"]), os.environ) if "LAMBDA_TASK_ROOT" in os.environ else None
"""The router as Lambda calls it: takes a proxy event and returns a proxy response."""
