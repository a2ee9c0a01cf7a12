"""Properties of every plan, tested with generated manifests."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.builders.manifests import (
    artifacts_of,
    manifests,
    manifests_with_graphs,
    model_names,
    signature,
    version_names,
)
from turnout.manifest.parser import Manifest
from turnout.openapi.document import build_document, render_document
from turnout.openapi.inference_operations import operation_id
from turnout.openapi.schemas import ERROR, MESSAGE, served_name
from turnout.plan.as_json import plan_to_json
from turnout.plan.checks.quotas import count_resources
from turnout.plan.planner import make_plan
from turnout.plan.values import Api, Plan, StagePlan
from turnout.protocol.naming import function_name, route_variable_name, schema_name, variable_name

quick = settings(max_examples=25, deadline=None)


def plan_of(of: Manifest) -> Plan:
    """Every version has one input and one output with a free dimension, so a switch may decide by it."""
    free = signature(shape=(-1,))
    tensors = {(version.model, version.name): free for model in of.models for version in model.versions}
    return make_plan(of, artifacts_of(of, tensors), enforce=False)


def views(stage: StagePlan) -> list[dict[str, str]]:
    """Yield the variables for the baseline and for the canary."""
    canary = [{**stage.variables, **stage.canary.overrides}] if stage.canary else []
    return [dict(stage.variables), *canary]


def substitute(function: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{stageVariables\.([A-Za-z0-9]+)\}", lambda match: variables[match[1]], function)


def functions_reached(api: Api) -> set[str]:
    """Return every function that any stage of the API can call, for either share of its traffic."""
    return {
        substitute(route.function, variables)
        for stage in api.stages
        for variables in views(stage)
        for route in api.routes
    }


@quick
@given(manifests_with_graphs())
def test_every_function_that_a_variable_can_name_exists(of: Manifest) -> None:
    plan = plan_of(of)
    functions = {function.name for function in plan.functions}
    for api in plan.apis:
        assert functions_reached(api) <= functions


@quick
@given(manifests())
def test_every_version_that_a_route_variable_names_exists(of: Manifest) -> None:
    plan = plan_of(of)
    functions = {function.name for function in plan.functions}
    for stage in (stage for api in plan.apis for stage in api.stages):
        for variables in views(stage):
            for model in of.models:
                route = variables.get(route_variable_name(model.name), "")
                for choice in filter(None, route.split(",")):
                    version, _, percent = choice.partition(".")
                    assert function_name(f"turnout-{plan.stack}", model.name, version) in functions
                    assert 0 <= float(percent) <= 100


@quick
@given(manifests_with_graphs())
def test_router_has_its_choice_wherever_it_is_called(of: Manifest) -> None:
    for api in plan_of(of).apis:
        for stage in api.stages:
            for variables in views(stage):
                for model in of.models:
                    if variables[variable_name(model.name)] == "router":
                        assert variables[route_variable_name(model.name)]


@quick
@given(manifests_with_graphs())
def test_variables_contain_only_what_api_gateway_accepts(of: Manifest) -> None:
    for api in plan_of(of).apis:
        for stage in api.stages:
            for name, value in views(stage)[-1].items():
                assert re.fullmatch(r"[A-Za-z0-9]{1,64}", name)
                assert re.fullmatch(r"[A-Za-z0-9\-._~:/?#&=,]+", value)


@quick
@given(manifests_with_graphs())
def test_function_names_are_unique_and_valid_for_lambda(of: Manifest) -> None:
    names = [function.name for function in plan_of(of).functions]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9\-_]+", name) for name in names)


@quick
@given(manifests_with_graphs())
def test_every_matching_graph_has_a_signature_and_its_function(of: Manifest) -> None:
    plan = plan_of(of)
    assert [graph.model for graph in plan.graphs] == [model.name for model in of.models if model.graph is not None]
    for graph in plan.graphs:
        assert [tensor.name for tensor in graph.signature.inputs] == ["x"]
        assert [tensor.name for tensor in graph.signature.outputs] == ["y"]
        assert f"turnout-local_{graph.model}_router" in {function.name for function in plan.functions}


@quick
@given(manifests_with_graphs())
def test_resources_follow_the_choice(of: Manifest) -> None:
    plan = plan_of(of)
    for api in plan.apis:
        assert count_resources(api.routes) == plan.resources[of.open_inference]
    assert plan.resources["off"] < plan.resources["proxy"] < plan.resources["direct"]


@quick
@given(manifests())
def test_every_stage_is_in_one_api(of: Manifest) -> None:
    stages = [stage.name for api in plan_of(of).apis for stage in api.stages]
    assert sorted(stages) == sorted(stage.name for stage in of.stages)


@quick
@given(manifests_with_graphs())
def test_equal_manifests_give_equal_plans_and_bytes(of: Manifest) -> None:
    first, second = plan_of(of), plan_of(replace(of))
    assert first == second
    assert orjson.dumps(plan_to_json(first)) == orjson.dumps(plan_to_json(second))
    for one, other in zip(first.apis, second.apis, strict=True):
        assert render_document(build_document(first, one)) == render_document(build_document(second, other))


@quick
@given(manifests(), version_names, st.data())
def test_one_more_version_changes_only_its_own_entries(of: Manifest, name: str, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(of.models))
    assume(name not in {version.name for version in model.versions})
    added = replace(model.versions[0], name=name, artifact=f"models/{model.name}/{name}/model.onnx")
    larger = replace(model, versions=(*model.versions, added))
    before = plan_of(of)
    after = plan_of(replace(of, models=tuple(larger if entry is model else entry for entry in of.models)))

    assert [
        function for function in after.functions if (function.model, function.version) != (model.name, name)
    ] == list(before.functions)
    assert [package for package in after.packages if package.name != f"{model.name}_{name}"] == list(before.packages)
    for old, new in zip(before.apis, after.apis, strict=True):
        assert new.stages == old.stages
        assert [route for route in new.routes if (route.model, route.version) != (model.name, name)] == list(old.routes)
        assert _own_operations(after, new, model.name, name) == _own_operations(before, old, model.name, name)


def _own_operations(plan: Plan, api: Api, model: str, version: str) -> dict[str, object]:
    """Return the document's operations and schemas without those of the version, and of its model, which names its
    versions.
    """
    document = build_document(plan, api)
    own = {f"/models/{model}/inference", f"/models/{model}/{version}/inference"}
    schemas = {served_name(model, kind) for kind in ("Request", "Response")}
    schemas |= {schema_name(model, version, kind) for kind in ("Request", "Response")}
    return {
        **{path: item for path, item in document["paths"].items() if path not in own},
        **{name: schema for name, schema in document["components"]["schemas"].items() if name not in schemas},
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(model_names, version_names), min_size=2, max_size=6, unique=True))
def test_no_two_names_have_the_same_spelling(names: list[tuple[str, str]]) -> None:
    for (model, version), (other, other_version) in combinations(names, 2):
        assert function_name("p", model, version) != function_name("p", other, other_version)
        assert schema_name(model, version, "Request") != schema_name(other, other_version, "Request")
        assert operation_id(model, version) != operation_id(other, other_version)
        assert operation_id(model, "") != operation_id(other, other_version)
        assert served_name(model, "Request") != schema_name(other, other_version, "Request")
        if model != other:
            assert variable_name(model) != variable_name(other)
            assert served_name(model, "Request") != served_name(other, "Request")
    spelled = {schema_name(model, version, kind) for model, version in names for kind in ("Request", "Response")}
    assert not spelled & {ERROR, MESSAGE}


def test_similar_names_have_different_spellings() -> None:
    rows = [("iris", "v1"), ("iris-v1", "v1"), ("iris", "1"), ("iris", "1-1"), ("iris", "11"), ("irisv", "1")]
    assert len({schema_name(*entry, "Request") for entry in rows}) == len(rows)
    assert (
        len({operation_id(*entry) for entry in rows} | {operation_id(model, "") for model, _ in rows}) == len(rows) + 3
    )
