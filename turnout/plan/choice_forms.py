"""Describes in which form the stages contain the versions of their models, and up to how many models it holds."""

from __future__ import annotations

from turnout.plan.checks.quotas import VARIABLES_PER_STAGE
from turnout.plan.served_by import combined_choices
from turnout.plan.stages import OWN_VARIABLES, RESERVED_VARIABLES
from turnout.plan.values import Plan, StagePlan
from turnout.protocol.aws.cors import CREDENTIALS_VARIABLE, ORIGINS_VARIABLE
from turnout.protocol.naming import ALIAS_VARIABLE, CANARY_VARIABLE, route_variable_name, variable_name
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE, TABLES_FOLDER, table_path
from turnout.protocol.routing.packed_choices import VARIABLE_CHARACTERS, is_packed
from turnout.protocol.routing.pooled import WATCHED_VARIABLE

OTHERS = frozenset(
    {ALIAS_VARIABLE, CANARY_VARIABLE, CREDENTIALS_VARIABLE, ORIGINS_VARIABLE, TABLE_VARIABLE, WATCHED_VARIABLE}
)
"""Stage variables that are not a model's."""


def describe_choices(plan: Plan) -> str:
    """Return the form of the choices, and the number of models from which on the next form is used."""
    stages = [stage for api in plan.apis for stage in api.stages]
    stage = max(stages, key=lambda entry: TABLE_VARIABLE in entry.variables)
    table = stage.variables.get(TABLE_VARIABLE)
    packed = sum(map(is_packed, stage.variables))
    if table is None and not packed:
        return (
            f"Choices: a stage variable for each model. From about {_count_own(plan, stage):,} models on, models share "
            "stage variables."
        )
    most = count_packed(plan, stage)
    if table is None:
        return (
            f"Choices: packed into {packed} stage variables. From about {most:,} models with names of this length on, "
            "a table in S3 contains them."
        )
    return (
        f"Choices: a table of {len(combined_choices(stage)):,} models in S3, {TABLES_FOLDER}/{table_path(table)} for "
        f"{stage.name}; stage variables hold about {most:,} models with names of this length."
    )


def _count_own(plan: Plan, stage: StagePlan) -> int:
    routed = sum(route_variable_name(model) in stage.variables for model in _models_of(plan))
    return VARIABLES_PER_STAGE - OWN_VARIABLES - routed - bool(plan.pools) + 1


def count_packed(plan: Plan, stage: StagePlan) -> int:
    """Return how many models fit into packed stage variables, with names as long as the present ones on average."""
    combined = combined_choices(stage)
    own = [name for name in stage.variables if name not in OTHERS and not is_packed(name)]
    longest: dict[str, int] = {}
    for served in plan.versions:
        version = served.version
        if variable_name(version.model) in combined:
            needed = len(version.model) + 1 + len(version.name)
            longest[version.model] = max(needed, longest.get(version.model, 0))
    average = sum(longest.values()) / len(longest) + 1
    left = VARIABLES_PER_STAGE - RESERVED_VARIABLES - len(own)
    return int((VARIABLE_CHARACTERS + 1) // average) * max(0, left) + 1


def _models_of(plan: Plan) -> set[str]:
    return {served.version.model for served in plan.versions} | {graph.model for graph in plan.graphs}
