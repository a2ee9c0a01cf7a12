"""Writes the plan as JSON, for `turnout plan --json` and the golden file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from turnout.plan.values import Api, Function, Plan, Pool, ServedGraph, ServedVersion, StagePlan
from turnout.protocol.routing.graph_nodes import spell_node


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return every field of the plan by its name; equal plans give equal bytes."""
    return {
        "platform": plan.platform,
        "stack": plan.stack,
        "descriptions": dict(plan.descriptions),
        "functions": [_function(function) for function in plan.functions],
        "apis": [_api(api) for api in plan.apis],
        "packages": [asdict(package) for package in plan.packages],
        "versions": [_version(served) for served in plan.versions],
        "graphs": [_graph(graph) for graph in plan.graphs],
        "open_inference": plan.open_inference,
        "resources": dict(plan.resources),
        "shared": sorted(plan.shared),
        "caller_routes": [asdict(route) for route in plan.caller_routes],
        "pools": [_pool(pool) for pool in plan.pools],
        "pooled": [_function(function) for function in plan.pooled],
        "quotas": [asdict(quota) for quota in plan.quotas],
        "notes": [asdict(note) for note in plan.notes],
    }


def _pool(pool: Pool) -> dict[str, Any]:
    """Return a pool with its versions."""
    return {
        "name": pool.name,
        "function": pool.function,
        "session_bytes": pool.session_bytes,
        "versions": [
            {"model": model, "version": version, "session_bytes": size}
            for (model, version), size in pool.sessions.items()
        ],
    }


def _function(function: Function) -> dict[str, Any]:
    """Return a function with its settings next to its other keys."""
    fields = {**asdict(function), **asdict(function.settings)}
    del fields["settings"]
    return fields


def _api(api: Api) -> dict[str, Any]:
    return {
        "name": api.name,
        "auth": api.auth,
        "routes": [asdict(route) for route in api.routes],
        "stages": [_stage(stage) for stage in api.stages],
        "jwt": api.jwt and asdict(api.jwt),
        "cors": api.cors and asdict(api.cors),
        "has_consumers": api.has_consumers,
    }


def _stage(stage: StagePlan) -> dict[str, Any]:
    canary = stage.canary
    return {
        "name": stage.name,
        "variables": dict(stage.variables),
        "canary": canary
        and {"percent": canary.percent, "overrides": dict(canary.overrides), "release": canary.release},
        "auth": stage.auth,
        "throttle": stage.throttle and asdict(stage.throttle),
        "version_override": stage.version_override,
        "slo": asdict(stage.slo),
        "jwt": stage.jwt and asdict(stage.jwt),
        "cors": stage.cors and asdict(stage.cors),
        "consumers": [asdict(consumer) for consumer in stage.consumers],
        "async": stage.asynchronous and asdict(stage.asynchronous),
        **({"tables": {name: json.loads(text) for name, text in stage.tables.items()}} if stage.tables else {}),
    }


def _graph(graph: ServedGraph) -> dict[str, Any]:
    return {"model": graph.model, "node": spell_node(graph.node), "signature": graph.signature.to_json()}


def _version(served: ServedVersion) -> dict[str, Any]:
    return {
        "model": served.version.model,
        "name": served.version.name,
        **asdict(served.version),
        "sha256": served.sha256,
        "size_bytes": served.size_bytes,
        "signature": served.signature.to_json(),
    }
