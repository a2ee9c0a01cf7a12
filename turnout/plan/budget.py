"""Compares a plan's costs with `budget` in models.yaml and with the costs of the deployed plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.manifest.parser import Manifest
from turnout.plan.costs import CALL_MS, Costs, estimate_costs
from turnout.plan.estimates.call_costs import MillionCalls
from turnout.plan.values import Plan
from turnout.problems import Problem, ProblemsError

MORE = "Remove idle versions, `warm` or alarms, or raise the budget."
SHORTER = "Lower `memory_mb`, remove routers and shadows, or raise the budget."


def require_budget(plan: Plan, manifest: Manifest, call_ms: float = CALL_MS) -> Costs:
    """Return a plan's costs.

    Raises:
        ProblemsError: the costs exceed `budget`.
    """
    costs = estimate_costs(plan, manifest, call_ms)
    problems = tuple(check_budget(manifest, costs))
    if problems:
        raise ProblemsError(problems)
    return costs


def check_budget(manifest: Manifest, costs: Costs) -> Iterator[Problem]:
    """Yield the amounts that exceed the manifest's budget; nothing without a budget."""
    budget = manifest.budget
    if budget is None:
        return
    # The printed amounts are rounded to cents: an unrounded amount could exceed a budget that equals the printed one.
    if budget.month is not None and round(costs.rest_dollars, 2) > budget.month:
        key = ("budget", "month")
        dearest = max(costs.rest, key=lambda cost: cost.dollars)
        message = (
            f"a month without calls costs ${costs.rest_dollars:,.2f}, ${budget.month:,.2f} allowed; most of it is for "
            f"{dearest.name}, ${dearest.dollars:,.2f}"
        )
        yield manifest.problem(key if key in manifest.positions else key[:1], message, MORE)
    if budget.million_calls is None:
        return
    for cost in costs.million:
        if round(cost.dollars, 2) > budget.million_calls:
            message = (
                f"a million calls of {name_of(cost)} cost ${cost.dollars:,.2f}, ${budget.million_calls:,.2f} allowed, "
                f"at {costs.call_ms:g} ms a call"
            )
            yield manifest.problem(("budget", "million_calls"), message, SHORTER)


def name_of(cost: MillionCalls) -> str:
    """Return `iris v1`, `iris v1 through its router` or `vote`."""
    name = f"{cost.model} {cost.version}".rstrip()
    return f"{name} through its router" if cost.via == "router" else name


@dataclass(frozen=True, slots=True)
class CostDifference:
    """A cost of the plan, and of the last deployment.

    Args:
        name: `a month without calls`, or the function of a million calls.
        deployed: dollars; None if it is not deployed.
        planned: dollars; None if the plan no longer has it.
    """

    name: str
    deployed: float | None
    planned: float | None

    @property
    def dollars(self) -> float:
        """Return the difference to the last deployment."""
        return (self.planned or 0.0) - (self.deployed or 0.0)


REST = "a month without calls"


def export_costs(costs: Costs) -> dict[str, Any]:
    """Return the stack's output `costs`, which the next plan is compared with."""
    return {
        "month": round(costs.rest_dollars, 4),
        "million_calls": {name_of(cost): round(cost.dollars, 4) for cost in costs.million},
    }


def compare_costs(costs: Costs, outputs: Mapping[str, Any]) -> tuple[CostDifference, ...] | None:
    """Return each amount that differs from the deployed one, the month first.

    Return None if an older Turnout deployed the stack, which has no costs then.
    """
    planned, before = export_costs(costs), outputs.get("costs")
    if not isinstance(before, Mapping):
        if outputs.get("functions"):
            return None
        before = {"month": 0.0, "million_calls": {}}
    differences = [CostDifference(REST, before["month"], planned["month"])]
    calls, deployed = planned["million_calls"], before["million_calls"]
    differences += [
        CostDifference(name, deployed.get(name), calls.get(name)) for name in dict.fromkeys((*calls, *deployed))
    ]
    return tuple(
        difference for difference in differences if difference.name == REST or difference.deployed != difference.planned
    )


def describe_difference(difference: CostDifference) -> str:
    """Return `$14.00, $1.60 more than deployed`."""
    planned = "removed" if difference.planned is None else f"${difference.planned:,.2f}"
    if difference.deployed is None:
        return f"{planned}, not deployed yet"
    if difference.planned is None:
        return f"removed, ${difference.deployed:,.2f} deployed"
    cents = round(difference.dollars, 2)
    if not cents:
        return f"{planned}, as deployed"
    return f"{planned}, ${abs(cents):,.2f} {'more' if cents > 0 else 'less'} than deployed"
