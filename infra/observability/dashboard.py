"""The dashboard's body: for each stage what its callers see, what serves it, and its canary beside its baseline.

Source: CloudWatch API Reference, "Dashboard Body Structure and Syntax".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from turnout.plan.served_by import watched_of
from turnout.plan.values import Api, Plan, StagePlan
from turnout.protocol.naming import ALIAS_VARIABLE

from ..naming import Place

COLUMNS = 3
WIDTH = 24 // COLUMNS
HEIGHT = 6
PERIOD_S = 60

Widget = dict[str, Any]
Row = tuple[Widget, ...]
Metric = list[Any]

FUNCTION_GRAPHS = (("calls", "Invocations", "Sum"), ("errors", "Errors", "Sum"), ("p99 ms", "Duration", "p99"))
"""Title, metric of AWS/Lambda and statistic of a row about functions."""


def render_dashboard(plan: Plan, place: Place) -> str:
    """The body, equal for equal plans."""
    rows = [row for api in plan.apis for stage in api.stages for row in _of_stage(plan, place, api, stage)]
    widgets = [
        {**widget, "x": column * WIDTH, "y": index * HEIGHT, "width": WIDTH, "height": HEIGHT}
        for index, row in enumerate(rows)
        for column, widget in enumerate(row)
    ]
    return json.dumps({"widgets": widgets}, separators=(",", ":"))


def _of_stage(plan: Plan, place: Place, api: Api, stage: StagePlan) -> Iterator[Row]:
    yield _answers(place, api, stage)
    shown = {resource: resource for resource in served_by(api, stage)}
    yield _functions(place, f"{stage.name}: functions", shown)
    if stage.canary is None:
        return
    for watched in watched_of(plan, stage.variables, stage.canary.overrides):
        baseline = {f"baseline {resource}": resource for resource in sorted(watched.baseline.versions)}
        canary = {f"canary {resource}": resource for resource in sorted(watched.canary.versions)}
        title = f"{stage.name}: {watched.model}, canary {stage.canary.percent:g}%"
        yield _functions(place, title, baseline | canary)


def served_by(api: Api, stage: StagePlan) -> list[str]:
    """`function:alias` of everything that the stage's unversioned routes call, each once."""
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


def _functions(place: Place, title: str, resources: dict[str, str]) -> Row:
    """Three graphs with a line for each of `resources`, label -> `function:alias`."""
    return tuple(
        _graph(
            place,
            f"{title}, {graph}",
            [
                ["AWS/Lambda", metric, *_dimensions(resource), {"stat": stat, "label": label}]
                for label, resource in resources.items()
            ],
        )
        for graph, metric, stat in FUNCTION_GRAPHS
    )


def _dimensions(resource: str) -> list[str]:
    return ["FunctionName", resource.partition(":")[0], "Resource", resource]


def _graph(place: Place, title: str, metrics: Sequence[Metric]) -> Widget:
    return {
        "type": "metric",
        "properties": {"title": title, "region": place.region, "period": PERIOD_S, "metrics": list(metrics)},
    }
