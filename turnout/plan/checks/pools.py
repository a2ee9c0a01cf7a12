"""Pools: the functions that versions share, and whether their versions fit into their memory and disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from turnout.artifacts.session_size import estimate_session_bytes
from turnout.manifest.parser import Manifest
from turnout.plan.served_by import Watched, watched_of, watched_routed
from turnout.plan.values import Function, Plan, Pool, ServedVersion, StagePlan
from turnout.problems import Problem
from turnout.protocol.naming import function_name, pool_name
from turnout.wording import size_text

MB = 1024 * 1024

RUNTIME_BYTES = 80 * MB
"""Memory of a function before it loads a version: Python, numpy, onnxruntime and the handler. Measured with onnxruntime
1.32 on x86_64: 57 MB resident, 66 MB with one small session.
"""

REQUEST_BYTES = 64 * MB
"""Memory for one call: an event of 6 MB as text, bytes, JSON and tensors, and the allocations of a run."""

MOST_MEMORY_MB = 10_240


def session_room(memory_mb: int) -> int:
    """Return the bytes of a function's memory for sessions; zero or less if the runtime alone needs all of it."""
    return memory_mb * MB - RUNTIME_BYTES - REQUEST_BYTES


def plan_pools(functions: Sequence[Function], versions: Sequence[ServedVersion]) -> Iterator[Pool]:
    """Return the pools of the functions of the kind `pool`."""
    pooled: dict[str, dict[tuple[str, str], int]] = {}
    for served in versions:
        version = served.version
        if version.pool:
            sessions = pooled.setdefault(version.pool, {})
            sessions[version.model, version.name] = estimate_session_bytes(served.size_bytes)
    for function in functions:
        if function.kind == "pool":
            sessions = pooled[function.model]
            room = session_room(function.settings.memory_mb)
            yield Pool(function.model, function.name, tuple(sessions), room, sessions)


def find_pool_functions(manifest: Manifest, prefix: str) -> dict[str, str]:
    """Return name that a pooled version's own function would have -> its pool's function, like `Plan.pool_of`."""
    return {
        function_name(prefix, version.model, version.name): pool_name(prefix, version.pool)
        for version in manifest.versions
        if version.pool
    }


def find_tested_functions(plan: Plan) -> tuple[Function, ...]:
    """Return the functions that pooled versions would have, for versions to which a canary moves traffic."""
    pooled = {function.name: function for function in plan.pooled}
    moved = {
        resource.partition(":")[0]
        for api in plan.apis
        for stage in api.stages
        for pair in _watched(plan, stage)
        for resource in pair.canary.versions - pair.baseline.versions
    }
    return tuple(function for name, function in pooled.items() if name in moved)


def _watched(plan: Plan, stage: StagePlan) -> Iterator[Watched]:
    """Return the models that a stage's canary and its routed canaries move."""
    if stage.canary is not None and not stage.canary.release:
        yield from watched_of(plan, stage.variables, stage.canary.overrides)
    yield from (watched_routed(plan, stage, model) for model in stage.routed)


def check_pools(manifest: Manifest, pools: Sequence[Pool]) -> Iterator[Problem]:
    """Report versions that do not fit into their pool even if nothing else is loaded."""
    for pool in pools:
        for model, name in pool.versions:
            needed = pool.sessions[model, name]
            if needed <= pool.session_bytes:
                continue
            version = manifest.model(model).version(name)
            path = ("models", model, "versions", name, *(("pool",) if _says_pool(manifest, model, name) else ()))
            message = (
                f"does not fit into the pool `{pool.name}`: its session takes about {size_text(needed)}, and "
                f"{version.memory_mb:,} MB leave {size_text(max(0, pool.session_bytes))}"
            )
            fitting_mb = math.ceil((needed + RUNTIME_BYTES + REQUEST_BYTES) / MB)
            remedy = "Take the version out of the pool."
            if fitting_mb <= MOST_MEMORY_MB:
                remedy = (
                    f"Set `pools.{pool.name}.memory_mb` to {fitting_mb} or more, or take the version out of the pool."
                )
            yield manifest.problem(path, message, remedy)


def _says_pool(manifest: Manifest, model: str, version: str) -> bool:
    return ("models", model, "versions", version, "pool") in manifest.positions
