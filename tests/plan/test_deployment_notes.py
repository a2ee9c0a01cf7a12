"""Notes before a deployment: open stages, and routes that only a canary's share would see."""

from __future__ import annotations

from typing import Any

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest.values import Asynchronous, Canary, Manifest, Throttle
from turnout.plan.deployment_notes import find_canary_routes, find_deployment_notes, find_shared_models, find_stranded
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan

V1, V2 = "turnout-test_iris_v1", "turnout-test_iris_v2"
ROUTE = "POST /models/iris/v2/inference"


def plan_of(of: Manifest) -> Plan:
    return make_plan(of, artifacts_of(of), stack="test")


IRIS = Canary(10.0, {"iris": "v2"})


def with_canary(canary: Canary | None = IRIS, **fields: Any) -> Plan:
    return plan_of(manifest(stages=(stage(canary=canary, auth="iam", **fields),)))


def notes(plan: Plan, outputs: dict[str, Any] | None) -> dict[str, str]:
    return {note.path: note.message for note in find_deployment_notes(plan, outputs)}


def test_open_stage_is_named_with_the_remedy() -> None:
    plan = plan_of(manifest(stages=(stage("dev"), stage("prod", auth="api_key"), stage("ops", auth="iam"))))
    result = notes(plan, {})
    assert result.keys() == {"stages.dev.auth"}
    assert "anyone who knows the address" in result["stages.dev.auth"]
    assert "`api_key`, `iam` or `jwt`, and a `throttle`" in result["stages.dev.auth"]
    throttled = plan_of(manifest(stages=(stage("dev", throttle=Throttle(1.0, 1)),)))
    assert "throttle" not in notes(throttled, {})["stages.dev.auth"]


def test_deletion_of_requests_with_the_last_async_stage_is_noted() -> None:
    outputs = {"requests": {"bucket": "b"}}
    kept = plan_of(manifest(stages=(stage(auth="iam", asynchronous=Asynchronous()),)))
    gone = plan_of(manifest(stages=(stage(auth="iam"),)))
    assert notes(kept, outputs) == notes(gone, {}) == notes(gone, None) == {}
    assert "are deleted, with all requests" in notes(gone, outputs)["stages"]


def test_version_that_is_added_with_its_canary_is_seen_only_by_the_canary_share() -> None:
    outputs = {"functions": [V1], "stages": {"prod": {}}}
    assert find_canary_routes(with_canary(), outputs) == {"prod": [ROUTE]}
    (message,) = notes(with_canary(), outputs).values()
    assert message.startswith(f"only the canary's share sees {ROUTE} until the canary ends")
    assert "Better deploy first" in message


def test_version_that_was_deployed_before_its_canary_is_seen_by_all() -> None:
    outputs = {"functions": [V1, V2], "stages": {"prod": {}}}
    assert find_canary_routes(with_canary(), outputs) == {"prod": []}
    assert notes(with_canary(), outputs) == {}


def test_route_belongs_only_to_the_canary_until_the_canary_ends() -> None:
    outputs = {"functions": [V1, V2], "stages": {"prod": {}}, "canary_routes": {"prod": [ROUTE, "POST /gone"]}}
    assert find_canary_routes(with_canary(), outputs) == {"prod": [ROUTE]}
    assert find_canary_routes(with_canary(None), outputs) == {}


def test_new_model_has_three_new_routes() -> None:
    of = manifest(
        (model(), model("digits", ("v1", "v2"))),
        (stage(serve={"iris": "v1", "digits": "v1"}, canary=Canary(10.0, {"iris": "v2"}), auth="iam"),),
    )
    outputs = {"functions": [V1, V2], "stages": {"prod": {}}}
    assert find_canary_routes(plan_of(of), outputs) == {
        "prod": [
            "POST /models/digits/inference", "POST /models/digits/v1/inference", "POST /models/digits/v2/inference"
        ]
    }  # fmt: skip


def test_new_stage_has_the_newest_deployment() -> None:
    assert notes(with_canary(), {}) == {}
    assert notes(with_canary(), {"functions": [V1], "stages": {"dev": {}}}) == {}


def test_without_known_outputs_the_routes_are_those_of_the_versions_of_the_canary() -> None:
    (message,) = notes(with_canary(), None).values()
    assert f"routes that are not deployed yet, such as {ROUTE}, are seen by the canary's share only" in message
    (message,) = notes(with_canary(Canary(10.0, {}, release=True)), None).values()
    assert "routes that are not deployed yet" in message


def many_with(canary: Canary | None, models: int = 100, routes: str = "auto") -> Plan:
    rows = tuple(model(f"m{number}", ("v1", "v2")) for number in range(models))
    served = {entry.name: "v1" for entry in rows}
    return plan_of(manifest(rows, (stage(serve=served, canary=canary, auth="iam"),), routes=routes))


def outputs_of(plan: Plan, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the outputs that the program exports after one deployment follows another."""
    variables = {planned.name: {"variables": planned.variables} for api in plan.apis for planned in api.stages}
    return {"stages": variables, "shared_models": find_shared_models(plan, before or {})}


def test_choices_are_not_packed_under_a_canary_that_keeps_direct_routes() -> None:
    canary = Canary(10.0, {"m0": "v2"})
    few = outputs_of(many_with(None, 40))
    assert find_stranded(many_with(canary), few) == {"prod": sorted(f"m{number}" for number in range(40))}
    assert find_stranded(many_with(None), few) == {}
    assert find_stranded(many_with(canary), {}) == {}  # a new stage
    # Routes that are shared, but only in a deployment that the stage does not have yet.
    later = outputs_of(many_with(canary, 40, "shared"), few)
    assert later["shared_models"] == {"prod": []}
    assert "prod" in find_stranded(many_with(canary), later)


def test_choices_of_models_with_shared_routes_may_be_packed_at_any_time() -> None:
    canary = Canary(10.0, {"m0": "v2"})
    shared = outputs_of(many_with(None, 40, "shared"))
    assert find_stranded(many_with(canary), shared) == {}
    packed = outputs_of(many_with(canary), shared)
    assert find_stranded(many_with(canary, 120), packed) == {}
