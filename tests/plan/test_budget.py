"""Budgets of a plan, and its costs compared with the deployed ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.manifests import artifacts_of, manifest, model
from turnout.manifest.parser import Budget, Manifest, Routing, Warm
from turnout.plan.budget import (
    CostDifference,
    check_budget,
    compare_costs,
    describe_difference,
    export_costs,
    require_budget,
)
from turnout.plan.costs import Costs, estimate_costs
from turnout.plan.planner import make_plan
from turnout.problems import ProblemsError


def costs_of(of: Manifest) -> Costs:
    return estimate_costs(make_plan(of, artifacts_of(of)), of)


def test_plan_within_its_budget_is_accepted_to_the_cent() -> None:
    of = manifest()
    month, million = costs_of(of).rest_dollars, max(cost.dollars for cost in costs_of(of).million)
    fits = replace(of, budget=Budget(round(month, 2), round(million, 2)))
    assert list(check_budget(fits, costs_of(of))) == []
    assert require_budget(make_plan(fits, artifacts_of(fits)), fits) == costs_of(of)
    tight = replace(of, budget=Budget(round(month, 2) - 0.01, round(million, 2) - 0.01))
    assert [cost.path for cost in check_budget(tight, costs_of(of))] == [
        ("budget",),
        *2 * [("budget", "million_calls")],  # iris v1 and v2 cost the same
    ]


def test_exceeded_budget_is_reported_with_its_largest_part() -> None:
    rows = model()
    warm = replace(rows, versions=(replace(rows.versions[0], warm=Warm(provisioned=9)), *rows.versions[1:]))
    of = replace(manifest((warm,)), budget=Budget(month=20))
    with pytest.raises(ProblemsError) as raised:
        require_budget(make_plan(of, artifacts_of(of)), of)
    (problem,) = raised.value.problems
    assert problem.message == (
        "a month without calls costs $83.24, $20.00 allowed; most of it is for provisioned concurrency, arm64, $78.84"
    )
    assert problem.hint.startswith("Remove idle versions")


def test_call_through_a_router_counts_with_its_duration() -> None:
    of = replace(manifest((model(routing=Routing(fallback="v1")),)), budget=Budget(million_calls=4.5))
    rows = [cost.message for cost in check_budget(of, costs_of(of))]
    assert [text.partition(" cost ")[0] for text in rows] == [
        "a million calls of iris v1 through its router",
        "a million calls of iris v2 through its router",
    ]
    plan = make_plan(of, artifacts_of(of))
    with pytest.raises(ProblemsError, match=r"a million calls of iris v1 cost .* at 100 ms a call"):
        require_budget(plan, of, call_ms=100)


def test_difference_contains_the_changed_costs_and_always_the_month() -> None:
    one, two = manifest((model(versions=("v1",)),)), manifest()
    deployed = {"costs": export_costs(costs_of(one)), "functions": ["turnout-test_iris_v1"]}
    assert compare_costs(costs_of(one), deployed) == (
        CostDifference("a month without calls", deployed["costs"]["month"], deployed["costs"]["month"]),  # type: ignore[index]
    )
    differences = compare_costs(costs_of(two), deployed)
    assert differences is not None
    assert [cost.name for cost in differences] == ["a month without calls", "iris v2"]
    assert differences[0].dollars == 0  # a version that no stage uses has no alarms
    assert differences[1].deployed is None
    gone = compare_costs(costs_of(one), {"costs": export_costs(costs_of(two))})
    assert gone is not None
    assert (gone[1].name, gone[1].planned) == ("iris v2", None)


def test_new_stack_has_no_deployed_cost_and_that_of_an_older_one_is_unknown() -> None:
    costs = costs_of(manifest())
    new = compare_costs(costs, {})
    assert new is not None
    assert new[0].deployed == 0.0
    assert compare_costs(costs, {"functions": ["turnout-test_iris_v1"]}) is None


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (CostDifference("x", 4.4, 6.0), "$6.00, $1.60 more than deployed"),
        (CostDifference("x", 6.0, 4.4), "$4.40, $1.60 less than deployed"),
        (CostDifference("x", 1200.0, 1200.001), "$1,200.00, as deployed"),
        (CostDifference("x", None, 4.4), "$4.40, not deployed yet"),
        (CostDifference("x", 4.4, None), "removed, $4.40 deployed"),
    ],
)
def test_difference_is_described_in_dollars(cost: CostDifference, text: str) -> None:
    assert describe_difference(cost) == text
