"""Estimates a plan's costs on AWS: a month without calls, and a million calls.

These are estimates from list prices and the assumptions in `Costs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from turnout.manifest.parser import Manifest, Prices
from turnout.plan.checks.pools import find_tested_functions
from turnout.plan.checks.quotas import is_stored
from turnout.plan.checks.used_versions import find_used_versions
from turnout.plan.estimates.call_costs import LOG_LINE_BYTES, CallCosts, MillionCalls, gigabytes_of
from turnout.plan.estimates.request_costs import ALARM_METRICS, estimate_polls, estimate_requests
from turnout.plan.estimates.rest import Rest
from turnout.plan.guard_alarms import find_guard_alarms, find_routed_guards, group_routed_guards
from turnout.plan.values import Function, Plan, Pool

NOTED = "2026-11"
"""Date of the list prices. docs/prices.md has the same date; a test compares them."""

REGION = "us-east-1"

HOURS = 730
"""Hours of a month, as in AWS's calculator."""

SECONDS = HOURS * 3600

CALL_MS = 20.0
"""The default duration of a version's call."""

GIGABYTE = 1024**3

FUNCTION_METRICS = 6
"""Metrics that a function's alarms compare: five for failures, one for throttles (infra/observability/alarms.py)."""

POOLED_METRICS = 4
"""Metrics that the alarm of a pooled version compares during its canary: failed answers and calls, by two aliases."""

STAGE_METRICS = 2
"""Metrics that a stage's alarm on failures compares: 5xx answers, and all answers."""

CHECKS = HOURS * 60
"""Checks of a guard rail in a month."""


@dataclass(frozen=True, slots=True)
class Costs:
    """A plan's costs.

    Args:
        rest: costs of a month without calls.
        million: costs of a million calls, by version and kind of call.
        prices: the prices that were used.
        call_ms: assumed duration of a call.
        assumptions: assumptions and omissions, a sentence each.
        asynchronous: costs of a million asynchronous requests, besides their calls; empty if no stage accepts them.
    """

    rest: tuple[Rest, ...]
    million: tuple[MillionCalls, ...]
    prices: Prices
    call_ms: float
    assumptions: tuple[str, ...]
    asynchronous: tuple[Rest, ...] = ()

    @property
    def rest_dollars(self) -> float:
        """Return the costs of a month without calls."""
        return sum(cost.dollars for cost in self.rest)

    def to_json(self) -> dict[str, Any]:
        """Return the costs for programs."""
        return {
            "currency": "USD",
            "month_at_rest": {
                "dollars": _rounded(self.rest_dollars),
                "items": [asdict(cost) | {"dollars": _rounded(cost.dollars)} for cost in self.rest],
            },
            "million_calls": [
                {
                    key: _rounded(value) if isinstance(value, float) else value
                    for key, value in {**asdict(cost), "dollars": cost.dollars}.items()
                }
                for cost in self.million
            ],
            "million_asynchronous": [asdict(cost) | {"dollars": _rounded(cost.dollars)} for cost in self.asynchronous],
            "call_ms": self.call_ms,
            "prices": asdict(self.prices),
            "assumptions": list(self.assumptions),
        }


def estimate_costs(plan: Plan, manifest: Manifest, call_ms: float = CALL_MS) -> Costs:
    """Return the estimated costs of a plan.

    Args:
        plan: plan of `manifest`.
        manifest: the manifest, with prices, shadows and canaries.
        call_ms: duration of a version's call.
    """
    rest = tuple(cost for cost in _rest(plan, manifest) if cost.amount)
    million = tuple(CallCosts(plan, manifest, call_ms).rows())
    requests = tuple(estimate_requests(plan, manifest.prices, call_ms))
    return Costs(rest, million, manifest.prices, call_ms, tuple(_assumptions(plan, manifest, call_ms)), requests)


def _rest(plan: Plan, manifest: Manifest) -> Iterator[Rest]:
    prices = manifest.prices
    stages = [stage for api in plan.apis for stage in api.stages]
    metrics = sum(FUNCTION_METRICS + bool(function.settings.slo.p99_ms) for function in find_alarmed(plan, manifest))
    metrics += POOLED_METRICS * len(find_tested_functions(plan))
    metrics += sum(STAGE_METRICS + bool(stage.slo.p99_ms) for stage in stages)
    yield Rest("alarms", metrics, "metrics", prices.alarm_month)
    yield Rest("dashboard", 1, "", prices.dashboard_month)
    for architecture, price in (
        ("arm64", prices.provisioned_arm64_gb_s),
        ("x86_64", prices.provisioned_x86_64_gb_s),
    ):
        kept = sum(
            gigabytes_of(function) * function.settings.warm.provisioned
            for function in _functions_on(plan, architecture)
        )
        yield Rest(f"provisioned concurrency, {architecture}", kept * SECONDS, "GB-seconds", price)
    snapshots = sum(gigabytes_of(function) for function in plan.functions if function.settings.warm.snap_start)
    yield Rest("snapshots of snap_start", snapshots * SECONDS, "GB-seconds", prices.snap_start_gb_s)
    stored = sum(
        version.size_bytes
        for version in plan.versions
        if not version.version.is_remote and is_stored(version.version, version.size_bytes)
    )
    yield Rest("models in S3", stored / GIGABYTE, "GB", prices.s3_gb_month)
    judgements = {stage.name: stage.canary.judgement for stage in manifest.stages if stage.canary}
    guarded = sum(
        stage.name in judgements and find_guard_alarms(plan, judgements[stage.name], stage) is not None
        for stage in stages
    )
    guarded += sum(1 for stage in stages for _ in group_routed_guards(find_routed_guards(plan, stage)))
    yield from estimate_polls(plan, prices)
    yield Rest("guard rail's calls", guarded * CHECKS / 1e6, "million calls", prices.lambda_million)


def estimate_pool_rest(pool: Pool, plan: Plan, prices: Prices) -> float:
    """Return the cost of a pool in a month without calls, in dollars: its alarms, and its models in S3."""
    function = next(entry for entry in plan.functions if entry.name == pool.function)
    metrics = FUNCTION_METRICS + bool(function.settings.slo.p99_ms)
    stored = sum(
        served.size_bytes
        for served in plan.versions
        if served.version.pool == pool.name and not served.version.is_remote
    )
    kept = gigabytes_of(function) * function.settings.warm.provisioned * SECONDS
    is_arm = function.settings.architecture == "arm64"
    kept_price = prices.provisioned_arm64_gb_s if is_arm else prices.provisioned_x86_64_gb_s
    return metrics * prices.alarm_month + stored / GIGABYTE * prices.s3_gb_month + kept * kept_price


def find_alarmed(plan: Plan, manifest: Manifest) -> tuple[Function, ...]:
    """Return the functions that have alarms: routers, and versions that get traffic by the manifest."""
    used = find_used_versions(manifest)
    return tuple(entry for entry in plan.functions if entry.kind != "model" or (entry.model, entry.version) in used)


def _functions_on(plan: Plan, architecture: str) -> Iterator[Function]:
    return (function for function in plan.functions if function.settings.architecture == architecture)


def _assumptions(plan: Plan, manifest: Manifest, call_ms: float) -> Iterator[str]:
    prices = manifest.prices
    own = [key for key, value in asdict(prices).items() if value != getattr(Prices(), key)]
    listed = f"List prices in {REGION}, US dollars, noted in {NOTED}, without the free tier"
    yield f"{listed}; from models.yaml: {', '.join(own)}." if own else f"{listed}."
    yield f"A call of a version runs {call_ms:g} ms (--call-ms); a router's call lasts as long as what it waits for."
    yield f"Each request writes {LOG_LINE_BYTES} bytes of access log."
    yield f"A month has {HOURS} hours."
    idle = len(plan.functions) - len(find_alarmed(plan, manifest))
    if idle:
        yield f"Versions that no stage uses have no alarms: {idle:,} of {len(plan.versions):,}."
    if any(function.settings.warm.provisioned for function in plan.functions):
        yield "Calls that provisioned concurrency answers are counted at the full price of a GB-second."
    if any(function.settings.warm.snap_start for function in plan.functions):
        yield "One snapshot is kept of each function with snap_start; restoring snapshots is not counted."
    if plan.is_asynchronous:
        yield "An asynchronous request has a small body, runs once and is read once; uploads and retries cost more."
        yield "The queue's polls are within SQS's free tier: a million calls a month in each account."
        alarms = ALARM_METRICS * prices.alarm_month
        yield f"With turnout:alarm_topic_arn, the alarms of asynchronous requests cost {alarms:.2f} a month more."
    if plan.graphs:
        yield "A graph's switch takes the dearest case, and a step without a version the model's dearest version."
    yield (
        "Not counted: cold starts, the functions' own logs (captures among them), zips in S3, models in your own "
        "buckets, X-Ray, data transfer, and what a guard rail runs and asks of CloudWatch."
    )


def _rounded(dollars: float) -> float:
    return round(dollars, 6)
