"""The functions of a plan and the zips that they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from turnout.manifest.parser import Model, Version
from turnout.manifest.settings import Settings
from turnout.plan.checks.quotas import is_stored
from turnout.plan.values import INTEGRATION_TIMEOUT_MS, Function, Package, RuntimeSizes, ServedVersion
from turnout.protocol.naming import POOL, ROUTER, function_name, general_router_name, pool_name, router_name
from turnout.runtimes.registry import DEFAULT_RUNTIME

LONGEST_TIMEOUT_S = 900
"""The longest timeout of a Lambda function."""

ROUTER_SETTINGS = Settings(architecture="arm64", memory_mb=512, timeout_s=INTEGRATION_TIMEOUT_MS // 1000)


def package_name(model: str, version: str) -> str:
    """Return `iris_v1`, or `iris_router` for the router of a model."""
    return f"{model}_{version}"


def plan_functions(models: Sequence[Model], routed: frozenset[str], prefix: str) -> Iterator[Function]:
    """Return each model's versions outside pools and its router, if any; then the pools and the general router."""
    longest_s = max(
        (version.timeout_s for model in models for version in model.versions if version.asynchronous), default=0
    )
    settings = ROUTER_SETTINGS
    if longest_s >= settings.timeout_s:  # the router waits for the version and does work of its own
        settings = replace(settings, timeout_s=min(LONGEST_TIMEOUT_S, longest_s + settings.timeout_s))
    for model in models:
        for version in model.versions:
            if not version.pool:
                yield _model_function(version, prefix, is_shadow=version.name == model.routing.shadow_version)
        if model.name in routed:
            yield _router("router", router_name(prefix, model.name), model.name, settings)
    yield from _pool_functions(models, prefix)
    yield _router("general_router", general_router_name(prefix), "", settings)


def plan_pooled(models: Sequence[Model], prefix: str) -> Iterator[Function]:
    """Return the functions that pooled versions would have of their own."""
    for model in models:
        for version in model.versions:
            if version.pool:
                yield _model_function(version, prefix, is_shadow=version.name == model.routing.shadow_version)


def _pool_functions(models: Sequence[Model], prefix: str) -> Iterator[Function]:
    """Yield one for each pool, in the order of the pools' first occurrence in the file."""
    pooled: dict[str, Version] = {}
    shadows = {
        version.pool for model in models for version in model.versions if version.name == model.routing.shadow_version
    }
    for version in (version for model in models for version in model.versions if version.pool):
        pooled.setdefault(version.pool, version)
    for pool, version in pooled.items():
        settings = replace(version.settings, capture=None)
        name, package = pool_name(prefix, pool), package_name(pool, POOL)
        yield Function(name, "pool", pool, POOL, package, settings, pool in shadows)


def _model_function(version: Version, prefix: str, *, is_shadow: bool) -> Function:
    name = function_name(prefix, version.model, version.name)
    package = package_name(version.model, version.name)
    return Function(name, "model", version.model, version.name, package, version.settings, is_shadow)


def _router(kind: str, name: str, model: str, settings: Settings) -> Function:
    return Function(name, kind, model, "", package_name(model, ROUTER) if model else ROUTER, settings)


def plan_packages(
    functions: Sequence[Function], versions: Sequence[ServedVersion], graphs: frozenset[str], runtime: RuntimeSizes
) -> Iterator[Package]:
    """Return one per function, in their order. A router of a graph needs the layer, since it computes with tensors."""
    served = {package_name(version.version.model, version.version.name): version for version in versions}
    pools = {version.version.pool: version.version.runtime for version in versions}
    for function in functions:
        if function.kind == "pool":  # its versions' models are in S3
            layer_bytes = runtime.layer_bytes[pools[function.model]][function.settings.architecture]
            yield Package(function.package, "", 0, runtime.code_bytes, layer_bytes)
        elif function.kind == "model":
            version = served[function.package]
            layer_bytes = runtime.layer_bytes[version.version.runtime][function.settings.architecture]
            size = 0 if is_stored(version.version, version.size_bytes, runtime) else version.size_bytes
            yield Package(function.package, version.sha256, size, runtime.code_bytes, layer_bytes)
        else:
            layer_bytes = runtime.layer_bytes[DEFAULT_RUNTIME][function.settings.architecture]
            needed = layer_bytes if function.model in graphs else 0
            yield Package(function.package, "", 0, runtime.router_bytes, needed)
