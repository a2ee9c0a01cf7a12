"""Lambda's entry point of the worker, whose zip is the general router's."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from turnout.protocol.aws_requests.stored_requests import StoredRequests

from ..invoke import LambdaInvoke, find_endpoint
from .worker import RequestWorker


def make_worker(environ: Mapping[str, str]) -> RequestWorker:
    """Return the worker of the deployment in the environment."""
    region = environ["AWS_REGION"]
    store = StoredRequests(environ).find()
    if store is None:
        raise RuntimeError("the environment names no bucket of requests")
    invoke = LambdaInvoke(environ.get("AWS_ENDPOINT_URL_LAMBDA") or find_endpoint(region), region, environ=environ)
    return RequestWorker(store, invoke)


_workers: list[RequestWorker] = []


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Process the messages of an event, as AWS Lambda calls it."""
    if not _workers:
        _workers.append(make_worker(os.environ))
    return _workers[0].handle(event, time.monotonic() + context.get_remaining_time_in_millis() / 1000)
