"""The plan on the page: functions, quotas, costs and notes, the same as `turnout plan --json`."""

from __future__ import annotations

from typing import Any

from turnout.console.subject import Subject
from turnout.plan.checks.quotas import find_tightest, spell_amount
from turnout.plan.costs import estimate_costs
from turnout.plan.planner import make_plan
from turnout.plan.values import Function, Quota

MOST_ROUTES = 200
"""Routes of each API that the page shows."""


def describe_plan(subject: Subject) -> dict[str, Any]:
    """Return the plan of the project's current files; an exceeded quota is shown, not rejected.

    Raises:
        ProblemsError: the project's files are invalid.
    """
    project = subject.project()
    plan = make_plan(project.manifest, project.artifacts, stack=subject.target.stack, enforce=False)
    costs = estimate_costs(plan, project.manifest).to_json()
    quotas = sorted(plan.quotas, key=lambda quota: -quota.share)
    fullest = {id(quota) for quota in find_tightest(plan.quotas)}  # two APIs may have equal quotas
    return {
        "functions": [
            {
                "name": function.name,
                "architecture": function.settings.architecture,
                "memory_mb": function.settings.memory_mb,
                "timeout_s": function.settings.timeout_s,
                "warm": describe_warm(function),
            }
            for function in plan.functions
        ],
        "routes": sum(len(api.routes) for api in plan.apis),
        "operations": [
            {
                "api": api.name,
                "method": route.method,
                "path": route.path,
                "function": route.function,
                "kind": route.kind,
            }
            for api in plan.apis
            for route in api.routes[:MOST_ROUTES]
        ],
        "apis": [api.name for api in plan.apis],
        "quotas": [{**describe_quota(quota), "is_fullest": id(quota) in fullest} for quota in quotas],
        "costs": costs,
        "notes": [note.message for note in plan.notes],
    }


def describe_warm(function: Function) -> str:
    """Return a function's warm-up setting; empty if it has none."""
    warm = function.settings.warm
    if warm.snap_start:
        return "SnapStart"
    return f"{warm.provisioned} provisioned" if warm.provisioned else ""


def describe_quota(quota: Quota) -> dict[str, Any]:
    """Return a quota with its amounts as texts."""
    return {
        "name": quota.name,
        "subject": quota.subject,
        "used": spell_amount(quota.used, quota.unit),
        "allowed": spell_amount(quota.allowed, quota.unit),
        "share": quota.share,
        "exceeded": quota.exceeded,
    }
