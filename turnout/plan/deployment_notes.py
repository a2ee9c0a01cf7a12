"""Notes before a deployment: open stages, routes that only a canary's share gets, and requests that will be deleted.

`turnout plan` prints them, and the Pulumi program shows them as warnings in the preview.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnout.plan.served_by import combined_choices, watched_of
from turnout.plan.values import Api, Note, Plan, Route, StagePlan
from turnout.protocol.naming import is_pool, split_function_name, variable_name
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE
from turnout.wording import listed

Outputs = Mapping[str, Any]
"""The stack's outputs of the last deployment, as `pulumi stack output --json` prints them."""

MOST_NAMED = 5

DEPLOY_FIRST = (
    "Better deploy first: add the versions, run `pulumi up`, and start the canary with the next `pulumi up`. Or set "
    "`routes: shared`: then new versions need no routes and are served at once, through one function more"
)

REQUESTS_GO = (
    "no stage has `async` any more, so the bucket and the queue of asynchronous requests are deleted, with all "
    "requests and answers in them. To keep them for now, leave `async` on one stage"
)


def find_deployment_notes(plan: Plan, outputs: Outputs | None) -> Iterator[Note]:
    """Yield notes about a plan before it is deployed.

    Args:
        plan: the plan to deploy.
        outputs: outputs of the last deployment; empty if there was none, None if they are unknown.
    """
    if (outputs or {}).get("requests") and not plan.is_asynchronous:
        yield Note("stages", REQUESTS_GO)
    only = find_canary_routes(plan, outputs or {})
    for api in plan.apis:
        for stage in api.stages:
            if stage.auth == "none":
                yield Note(f"stages.{stage.name}.auth", _describe_open(stage))
            if stage.canary is None:
                continue
            if outputs is None and not all(model in plan.shared for model in _models_of(plan)):
                yield Note(f"stages.{stage.name}.canary", _describe_unknown(_moved_routes(plan, api, stage)))
            if only.get(stage.name):
                yield Note(f"stages.{stage.name}.canary", _describe_routes(only[stage.name]))


def _models_of(plan: Plan) -> Iterator[str]:
    yield from (function.model for function in plan.unpooled_functions if function.kind == "model")


def find_canary_routes(plan: Plan, outputs: Outputs) -> dict[str, list[str]]:
    """Return, for each stage with a canary, the routes that only the canary's share has until the canary ends.

    A stage with a canary keeps its deployment, so these are the routes added by this deployment and by earlier ones
    during the canary. A new stage gets the newest deployment.
    """
    deployed, stages = set(outputs.get("functions") or ()), outputs.get("stages") or {}
    models = {function.model for function in plan.functions if function.name in deployed}
    earlier = outputs.get("canary_routes") or {}
    return {
        stage.name: [
            _name_route(route)
            for route in api.routes
            if _is_new(route, deployed, models) or _name_route(route) in (earlier.get(stage.name) or ())
        ]
        for api in plan.apis
        for stage in api.stages
        if stage.canary is not None and stage.name in stages
    }


def find_shared_models(plan: Plan, outputs: Outputs) -> dict[str, list[str]]:
    """Return, for each stage with a canary, the models that share their routes in its baseline's deployment.

    A stage with a canary keeps its old deployment, so these are models that shared their routes at that time, too.
    """
    earlier = outputs.get("shared_models") or {}
    deployed = outputs.get("stages") or {}
    shared: dict[str, list[str]] = {}
    for stage in (stage for api in plan.apis for stage in api.stages):
        keeps = stage.canary is not None and stage.name in deployed
        models = plan.shared & frozenset(earlier.get(stage.name) or ()) if keeps else plan.shared
        shared[stage.name] = sorted(models)
    return shared


def find_stranded(plan: Plan, outputs: Outputs) -> dict[str, list[str]]:
    """Return, for each stage with a canary, the models whose deployed routes would read a removed stage variable.

    A model's own route reads the model's own stage variable. If the choices of many models are now packed together,
    that variable is removed, and a stage with a canary would keep the old routes without it.
    """
    kept = find_shared_models(plan, outputs)
    deployed = outputs.get("stages") or {}
    stranded: dict[str, list[str]] = {}
    for stage in (stage for api in plan.apis for stage in api.stages):
        if stage.canary is None or stage.name not in deployed:
            continue
        before, packed = deployed[stage.name].get("variables") or {}, combined_choices(stage)
        models = [
            model
            for model in sorted(plan.shared)
            if (variable := variable_name(model)) in packed and variable in before and model not in kept[stage.name]
        ]
        if models:
            stranded[stage.name] = models
    return stranded


def find_unread(plan: Plan, outputs: Outputs) -> list[str]:
    """Return the stages with a release canary whose baseline's router would not read the table that replaces variables.

    The baseline keeps the code that it has, and that router has no access to tables.
    """
    deployed = outputs.get("stages") or {}
    return [
        stage.name
        for api in plan.apis
        for stage in api.stages
        if stage.canary is not None
        and stage.canary.release
        and TABLE_VARIABLE in stage.variables
        and stage.name in deployed
        and TABLE_VARIABLE not in (deployed[stage.name].get("variables") or {})
    ]


def find_orphaned(plan: Plan, outputs: Outputs) -> dict[str, list[str]]:
    """Return, for each stage with a canary, the models whose versions would move into or out of a pool.

    The stage keeps its deployment, whose routes lead to functions that would be deleted; in a release canary, the
    router keeps its old code, too.
    """
    kept = find_shared_models(plan, outputs)
    deployed, stages = set(outputs.get("functions") or ()), outputs.get("stages") or {}
    entering = {function.model for function in plan.pooled if function.name in deployed}
    pools = {name for name in deployed if is_pool(name)} - {pool.function for pool in plan.pools}
    orphaned: dict[str, list[str]] = {}
    for stage in (stage for api in plan.apis for stage in api.stages):
        if stage.canary is None or stage.name not in stages:
            continue
        models = sorted(entering if stage.canary.release else entering - frozenset(kept[stage.name]))
        if stage.canary.release:
            models += sorted(split_function_name(name)[0] for name in pools)
        if models:
            orphaned[stage.name] = models
    return orphaned


def _is_new(route: Route, deployed: set[str], models: set[str]) -> bool:
    return route.function not in deployed if route.version else bool(route.model) and route.model not in models


def _moved_routes(plan: Plan, api: Api, stage: StagePlan) -> list[str]:
    """Yield the routes of the versions that a stage's canary moves traffic to."""
    assert stage.canary is not None
    moved = watched_of(plan, stage.variables, stage.canary.overrides)
    functions = {name.partition(":")[0] for pair in moved for name in pair.canary.versions - pair.baseline.versions}
    return [_name_route(route) for route in api.routes if route.version and route.function in functions]


def _name_route(route: Route) -> str:
    return f"{route.method} {route.path}"


def _describe_open(stage: StagePlan) -> str:
    throttle = "" if stage.throttle else ", and a `throttle`"
    return (
        "with `none`, anyone who knows the address can call the stage at your cost. Set `auth` to "
        f"`api_key`, `iam` or `jwt`{throttle}"
    )


def _describe_routes(routes: Sequence[str]) -> str:
    return (
        f"only the canary's share sees {_listed(routes)} until the canary ends, because a stage with a canary keeps "
        f"its deployment; the other requests are answered with 403. {DEPLOY_FIRST}"
    )


def _describe_unknown(routes: Sequence[str]) -> str:
    named = f", such as {_listed(routes)}," if routes else ""
    return (
        f"a stage with a canary keeps its deployment: routes that are not deployed yet{named} are seen by the canary's "
        f"share only until the canary ends; the other requests are answered with 403. {DEPLOY_FIRST}"
    )


def _listed(routes: Sequence[str]) -> str:
    more = len(routes) - MOST_NAMED
    return listed(routes) if more <= 0 else f"{', '.join(routes[:MOST_NAMED])} and {more} more"
