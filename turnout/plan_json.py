"""The plan as JSON: what `turnout plan --json` prints and the golden file holds.

Comes in: a `Plan`. Goes out: dicts and lists in a fixed order, free of machine paths. Called by the command line.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from turnout.plan import Api, Plan, ServedVersion, StagePlan
from turnout.quotas import count_resources


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Every field of the plan, by the fields' own names; equal plans give equal bytes."""
    return {
        "platform": plan.platform,
        "stack": plan.stack,
        "descriptions": dict(plan.descriptions),
        "functions": [asdict(function) for function in plan.functions],
        "apis": [_api(api) for api in plan.apis],
        "packages": [asdict(package) for package in plan.packages],
        "versions": [_version(served) for served in plan.versions],
        "quotas": [asdict(quota) for quota in plan.quotas],
        "notes": [asdict(note) for note in plan.notes],
    }


def _api(api: Api) -> dict[str, Any]:
    return {
        "name": api.name,
        "auth": api.auth,
        "resources": count_resources(api),
        "routes": [asdict(route) for route in api.routes],
        "stages": [_stage(stage) for stage in api.stages],
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
    }


def _version(served: ServedVersion) -> dict[str, Any]:
    return {
        **asdict(served.version),
        "sha256": served.sha256,
        "size_bytes": served.size_bytes,
        "signature": served.signature.to_json(),
    }
