"""The form of a stage's choices in words, and the number of models from which on the next form is used."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.builders.manifests import artifacts_of, large_manifest
from turnout.plan.choice_forms import count_packed, describe_choices
from turnout.plan.planner import make_plan
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import Plan
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE


def plan_of(models: int) -> Plan:
    of = replace(large_manifest(models, 1, stages=1), routes="shared")
    return make_plan(of, artifacts_of(of), enforce=False)


def has_table(models: int) -> bool:
    of = replace(large_manifest(models, 1, stages=1), routes="shared")
    return TABLE_VARIABLE in plan_stage(of.stages[0], of.models, packed=find_packed(of)).variables


def test_few_models_have_a_variable_each() -> None:
    assert describe_choices(plan_of(2)) == (
        "Choices: a stage variable for each model. From about 97 models on, models share stage variables."
    )


def test_packed_choices_say_from_how_many_models_on_there_is_a_table() -> None:
    plan = plan_of(200)
    (stage,) = plan.apis[0].stages
    assert re.fullmatch(
        r"Choices: packed into 3 stage variables\. From about 6,\d{3} models with names of this length on, "
        r"a table in S3 contains them\.",
        describe_choices(plan),
    )
    # The names m0 to m199 are shorter on average than those of thousands of models.
    assert has_table(count_packed(plan, stage))


@pytest.mark.parametrize("models", [5000, 5600])
def test_the_number_is_right_for_the_present_names(models: int) -> None:
    of = replace(large_manifest(models, 1, stages=1), routes="shared")
    plan = make_plan(of, artifacts_of(of), enforce=False)
    most = count_packed(plan, plan.apis[0].stages[0])
    assert has_table(most + 150)
    assert not has_table(most - 150)


def test_a_table_is_named_with_its_stage() -> None:
    plan = plan_of(8000)
    (stage,) = plan.apis[0].stages
    text = describe_choices(plan)
    name = stage.variables[TABLE_VARIABLE]
    assert text.startswith(f"Choices: a table of 8,000 models in S3, choices/{name}.json for s0; ")
