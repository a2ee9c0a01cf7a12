"""The dashboard's body: for each stage what its callers observe, what serves it, and its canary next to its baseline.

Source: CloudWatch API Reference, "Dashboard Body Structure and Syntax".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnout.plan.served_by import watched_of
from turnout.plan.values import Api, Plan, StagePlan
from turnout.protocol.naming import ALIAS_VARIABLE
from turnout.protocol.routing.pooled import of_version

from ..naming import Place

COLUMNS = 3
WIDTH = 24 // COLUMNS
HEIGHT = 6
PERIOD_S = 60

MOST_WIDGETS = 500
MOST_METRICS = 2_500
"""Most metrics on one dashboard. Source: Amazon CloudWatch User Guide, "CloudWatch service quotas"."""

Widget = dict[str, Any]
Row = tuple[Widget, ...]
RankedRow = tuple[int, Row]
ANSWERS, CANARY, FUNCTIONS = range(3)
"""Ranks of the rows: they decide which rows stay if the dashboard cannot hold all."""

Metric = list[Any]

FUNCTION_GRAPHS = (("calls", "Invocations", "Sum"), ("errors", "Errors", "Sum"), ("p99 ms", "Duration", "p99"))
"""Title, AWS/Lambda metric and statistic of each graph in a row about functions."""


POOLED_METRICS = {"Invocations": "Requests", "Errors": "FailedAnswers", "Duration": "Duration"}
"""Metric of AWS/Lambda -> the pool's metric for one of its versions during a canary."""


def render_dashboard(plan: Plan, place: Place) -> str:
    """Return the dashboard's body; equal plans give equal bodies."""
    every = [row for api in plan.apis for stage in api.stages for row in _of_stage(plan, place, api, stage)]
    rows = choose_rows(every)
    widgets = [
        {**widget, "x": column * WIDTH, "y": index * HEIGHT, "width": WIDTH, "height": HEIGHT}
        for index, row in enumerate(rows)
        for column, widget in enumerate(row)
    ]
    if len(rows) < len(every):
        widgets.append(_describe_omitted(len(every) - len(rows), HEIGHT * len(rows)))
    return json.dumps({"widgets": widgets}, separators=(",", ":"))


def choose_rows(every: Sequence[RankedRow]) -> list[Row]:
    """Return the rows that fit on one dashboard, in order: the highest ranks first, then others while they fit."""
    widgets, metrics = MOST_WIDGETS - 1, MOST_METRICS
    chosen: list[int] = []
    for index, (_, row) in sorted(enumerate(every), key=lambda entry: (entry[1][0], entry[0])):
        compared = sum(len(widget["properties"]["metrics"]) for widget in row)
        if len(row) > widgets or compared > metrics:
            continue
        widgets, metrics = widgets - len(row), metrics - compared
        chosen.append(index)
    return [every[index][1] for index in sorted(chosen)]


def _describe_omitted(rows: int, below: int) -> Widget:
    allowed = f"{MOST_WIDGETS} graphs and {MOST_METRICS:,} metrics"
    text = f"CloudWatch allows {allowed} per dashboard: {rows} more rows are omitted."
    return {"type": "text", "x": 0, "y": below, "width": 24, "height": 2, "properties": {"markdown": text}}


def _of_stage(plan: Plan, place: Place, api: Api, stage: StagePlan) -> Iterator[RankedRow]:
    yield ANSWERS, _answers(place, api, stage)
    shown = {resource: resource for resource in served_by(api, stage)}
    pools = plan.pool_of
    yield FUNCTIONS, _functions(place, f"{stage.name}: functions", shown, pools)
    if stage.canary is None:
        return
    for watched in watched_of(plan, stage.variables, stage.canary.overrides):
        baseline = {f"baseline {resource}": resource for resource in sorted(watched.baseline.versions)}
        canary = {f"canary {resource}": resource for resource in sorted(watched.canary.versions)}
        title = f"{stage.name}: {watched.model}, canary {stage.canary.percent:g}%"
        yield CANARY, _functions(place, title, baseline | canary, pools)


def served_by(api: Api, stage: StagePlan) -> list[str]:
    """Return `function:alias` of every target of the stage's unversioned routes, each once."""
    alias = stage.variables[ALIAS_VARIABLE]
    functions = dict.fromkeys(_substitute(route.function, stage) for route in api.routes if not route.version)
    return [f"{function}:{alias}" for function in functions]


def _substitute(function: str, stage: StagePlan) -> str:
    for name, value in stage.variables.items():
        function = function.replace(f"${{stageVariables.{name}}}", value)
    return function


def _answers(place: Place, api: Api, stage: StagePlan) -> Row:
    where = ["ApiName", api.name, "Stage", stage.name]
    errors = [["AWS/ApiGateway", kind, *where, {"stat": "Sum"}] for kind in ("4XXError", "5XXError")]
    latency = [["AWS/ApiGateway", "Latency", *where, {"stat": stat, "label": stat}] for stat in ("p50", "p99")]
    return (
        _graph(place, f"{stage.name}: requests", [["AWS/ApiGateway", "Count", *where, {"stat": "Sum"}]]),
        _graph(place, f"{stage.name}: errors", errors),
        _graph(place, f"{stage.name}: latency, ms", latency),
    )


def _functions(place: Place, title: str, resources: dict[str, str], pools: Mapping[str, str]) -> Row:
    """Return three graphs with a line for each of `resources`, label -> `function:alias`; `pools` runs some of them."""
    return tuple(
        _graph(
            place,
            f"{title}, {graph}",
            [
                [*_measured(resource, metric, pools), {"stat": stat, "label": label}]
                for label, resource in resources.items()
            ],
        )
        for graph, metric, stat in FUNCTION_GRAPHS
    )


def _measured(resource: str, metric: str, pools: Mapping[str, str]) -> list[str]:
    """Return namespace, metric and dimensions of `function:alias`; for a pooled version, those that its pool writes."""
    function, _, alias = resource.partition(":")
    pool = pools.get(function)
    if pool is None:
        return ["AWS/Lambda", metric, "FunctionName", function, "Resource", resource]
    dimensions = of_version(pool, function, alias).items()
    return ["Turnout", POOLED_METRICS[metric], *(part for dimension in dimensions for part in dimension)]


def _graph(place: Place, title: str, metrics: Sequence[Metric]) -> Widget:
    return {
        "type": "metric",
        "properties": {"title": title, "region": place.region, "period": PERIOD_S, "metrics": list(metrics)},
    }
