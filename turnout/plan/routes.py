"""The routes of an API: inference by model and version, and those of the general router."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from turnout.manifest.parser import Model
from turnout.plan.values import INTEGRATION_TIMEOUT_MS, Route
from turnout.protocol.naming import function_name, general_router_name, variable_name

SHARED_ROUTES = (
    ("POST", "/models/{model}/inference", "inference"),
    ("POST", "/models/{model}/{version}/inference", "inference"),
)
"""The general router's routes for models without their own routes."""

SHARED_PATHS = tuple(path for _, path, _ in SHARED_ROUTES)

OPEN_INFERENCE = ("proxy", "direct", "off")
"""The ways to serve the Open Inference Protocol's paths."""

GENERAL_ROUTES = (
    ("GET", "/models", "catalogue"),
    ("GET", "/models/{model}", "catalogue"),
    ("GET", "/models/{model}/{version}", "catalogue"),
    ("GET", "/health/live", "health"),
    ("GET", "/health/ready", "health"),
    ("GET", "/openapi.json", "document"),
)
"""Method, path and kind of the general router's routes outside the Open Inference Protocol."""

OPEN_INFERENCE_ROUTES = (
    ("ANY", "/v2", "open_inference"),
    ("GET", "/v2/health/{check}", "health"),
    ("ANY", "/v2/{proxy+}", "open_inference"),
)
"""Health has its own route, because a throttle applies to a route."""

HEALTH_PATHS = tuple(path for _, path, kind in (*GENERAL_ROUTES, *OPEN_INFERENCE_ROUTES) if kind == "health")
"""Paths that are never throttled: a load balancer would remove a healthy service after a refused probe."""


REQUEST_ROUTES = (
    ("GET", "/requests/{id}", "request"),
    ("PUT", "/requests/{id}", "request"),
    ("DELETE", "/requests/{id}", "request"),
    ("GET", "/requests/{id}/answer", "request"),
    ("POST", "/uploads", "request"),
)
"""Routes of asynchronous requests, for stages that accept them."""

REQUEST_PATHS = frozenset(path for _, path, _ in REQUEST_ROUTES)


def plan_routes(
    models: Sequence[Model],
    prefix: str,
    open_inference: str,
    *,
    shared: frozenset[str] = frozenset(),
    asynchronous: bool = False,
) -> Iterator[Route]:
    """Return a direct route per version, one per model that reads a stage variable, then the general router's.

    Args:
        models: in the file's order.
        prefix: prefix of the functions' names.
        open_inference: `direct` adds the protocol's own paths for inference, `off` removes the protocol.
        shared: models that share two routes instead of having their own.
        asynchronous: whether a stage accepts asynchronous requests.
    """
    models = [model for model in models if model.name not in shared]
    yield from _inference(models, prefix, "/models/{model}/inference", "/models/{model}/{version}/inference")
    general = general_router_name(prefix)
    if shared:
        for method, path, kind in SHARED_ROUTES:
            yield Route(method, path, "", "", general, INTEGRATION_TIMEOUT_MS, kind)
    for method, path, kind in (
        *GENERAL_ROUTES,
        *(REQUEST_ROUTES if asynchronous else ()),
        *(OPEN_INFERENCE_ROUTES if open_inference != "off" else ()),
    ):
        yield Route(method, path, "", "", general, INTEGRATION_TIMEOUT_MS, kind)
    if open_inference == "direct":
        paths = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
        yield from _inference(models, prefix, *paths, kind="open_inference")


def _inference(
    models: Sequence[Model], prefix: str, served: str, versioned: str, *, kind: str = "inference"
) -> Iterator[Route]:
    for model in models:
        chosen = function_name(prefix, model.name, f"${{stageVariables.{variable_name(model.name)}}}")
        path = served.format(model=model.name)
        yield Route("POST", path, model.name, "", chosen, INTEGRATION_TIMEOUT_MS, kind)
        for version in model.versions:
            path = versioned.format(model=model.name, version=version.name)
            name = function_name(prefix, model.name, version.name)
            yield Route("POST", path, model.name, version.name, name, INTEGRATION_TIMEOUT_MS, kind)
