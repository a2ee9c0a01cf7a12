"""Properties of every deployment, tested with generated manifests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.builders.deployed import deployed, may_invoke, policy_of
from tests.builders.manifests import manifests, version_names
from tests.builders.pulumi_program import ACCOUNT, REGION, Program, Resource
from turnout.manifest.parser import Manifest

few = settings(max_examples=5, deadline=None)

FUNCTION = re.compile(r":function:([^:/]+):([^:/]+)/invocations$")
VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9]+)\}")


def views(stage: Resource) -> Iterator[dict[str, str]]:
    """Yield a stage's variables for the baseline and for the canary."""
    yield stage.inputs["variables"]
    if "canarySettings" in stage.inputs:
        yield stage.inputs["variables"] | stage.inputs["canarySettings"]["stageVariableOverrides"]


def integrations(program: Program) -> Iterator[tuple[Resource, dict[str, Any]]]:
    """Yield each stage with each integration of its API's document."""
    apis = program.of("apigateway/restApi:RestApi").values()
    documents = {f"{api.name}-id": orjson.loads(api.inputs["body"]) for api in apis}
    for stage in program.of("apigateway/stage:Stage").values():
        for path in documents[stage.inputs["restApi"]]["paths"].values():
            for operation in path.values():
                yield stage, operation["x-amazon-apigateway-integration"]


def called(program: Program) -> set[tuple[str, str]]:
    """Return (function, alias) of everything that any stage of any API can call."""
    results = set()
    for stage, integration in integrations(program):
        for variables in views(stage):
            uri = VARIABLE.sub(lambda match: variables[match[1]], integration["uri"])  # noqa: B023 - used immediately
            match = FUNCTION.search(uri)
            assert match, uri
            results.add((match[1], match[2]))
    return results


def functions_of(program: Program) -> set[str]:
    return {resource.inputs["name"] for resource in program.of("lambda/function:Function").values()}


def arn_of(function: str, alias: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}:{alias}"


def aliases(program: Program) -> set[tuple[str, str]]:
    return {
        (resource.inputs["functionName"], resource.inputs["name"])
        for resource in program.of("lambda/alias:Alias").values()
    }


@few
@given(manifests())
def test_everything_that_a_stage_can_call_exists_and_nothing_else_may_be_called(of: Manifest) -> None:
    program = deployed(of)
    check_calls(program)
    check_credentials(program)
    check_routers(program, of)
    check_names(program)


def check_calls(program: Program) -> None:
    """The integration role may call exactly what the stages call."""
    integration = policy_of(program.of("iam/rolePolicy:RolePolicy")["integration"])
    functions = functions_of(program)
    reachable = {
        (function, alias)
        for function in functions
        for alias in ("live", "next")
        if may_invoke(integration, arn_of(function, alias))
    }
    assert called(program) <= aliases(program) <= reachable
    assert {function for function, _ in reachable} == {function for function, _ in aliases(program)}
    assert {function for function, _ in reachable} == {function for function, _ in called(program)}


def check_credentials(program: Program) -> None:
    """API Gateway uses the role that may call."""
    name = program.of("iam/role:Role")["integration"].inputs["name"]
    assert {integration["credentials"] for _, integration in integrations(program)} == {
        f"arn:aws:iam::{ACCOUNT}:role/{name}"
    }


def check_routers(program: Program, of: Manifest) -> None:
    """A router may call its own model's versions, and no router."""
    policies = program.of("iam/rolePolicy:RolePolicy")
    for model in of.models:
        if f"{model.name}_router" in policies and model.graph is None:
            policy = policy_of(policies[f"{model.name}_router"])
            allowed = {name for name in functions_of(program) if may_invoke(policy, arn_of(name, "live"))}
            assert allowed == {f"turnout-test_{model.name}_{version.name}" for version in model.versions}
    general = {
        name for name in functions_of(program) if may_invoke(policy_of(policies["router"]), arn_of(name, "next"))
    }
    assert general == {name for name, _ in aliases(program)} - {"turnout-test_router"}


def check_names(program: Program) -> None:
    """Every name on AWS belongs to the stack and is unique."""
    names: dict[str, list[str]] = {}
    for resource in program.resources:
        for key in ("name", "layerName", "dashboardName"):
            if key in resource.inputs and resource.type not in {
                "aws:lambda/alias:Alias",
                "aws:iam/rolePolicy:RolePolicy",
            }:
                names.setdefault(resource.type, []).append(resource.inputs[key])
    for kind, rows in names.items():
        assert len(set(rows)) == len(rows), kind
        assert all("turnout-test" in name for name in rows), kind


@few
@given(manifests())
def test_equal_manifests_are_equal_deployments_and_previews_know_what_is_served(of: Manifest) -> None:
    made, preview = deployed(of), deployed(replace(of), preview=True)
    assert comparable(deployed(replace(of))) == comparable(made)
    for kind, inputs in (
        ("apigateway/restApi:RestApi", ("body", "name")),
        ("apigateway/deployment:Deployment", ("triggers",)),
        ("apigateway/stage:Stage", ("variables", "stageName")),
    ):
        known = {name: [entry.inputs[key] for key in inputs] for name, entry in preview.of(kind).items()}
        assert known == {name: [resource.inputs[key] for key in inputs] for name, resource in made.of(kind).items()}


@few
@given(manifests(), version_names, st.data())
def test_one_more_version_changes_only_its_own_resources_and_its_api(
    of: Manifest, name: str, data: st.DataObject
) -> None:
    model = data.draw(st.sampled_from(of.models))
    assume(name not in {version.name for version in model.versions})
    added = replace(model.versions[0], name=name, artifact=f"models/{model.name}/{name}/model.onnx")
    larger = replace(model, versions=(*model.versions, added))
    before = comparable(deployed(of))
    after = comparable(deployed(replace(of, models=tuple(larger if entry is model else entry for entry in of.models))))

    assert before.keys() <= after.keys()
    own = f"{model.name}_{name}"
    layers = {urn for urn in after if "LayerVersion" in urn}
    new = {urn.rpartition("::")[2] for urn in after.keys() - before.keys() - layers}
    kinds = (
        ("", "_live", "_next") if any(entry.canary and entry.canary.release for entry in of.stages) else ("", "_live")
    )
    assert new == {own + kind for kind in kinds}
    changed = {urn.split("::")[2].rpartition("$")[2] for urn in before if before[urn] != after[urn]}
    assert changed <= {"aws:apigateway/restApi:RestApi", "aws:apigateway/deployment:Deployment"}


def comparable(program: Program) -> dict[str, Any]:
    """Return URN -> what the engine compares: inputs, with archives by their location."""
    return {resource.urn: orjson.dumps(dict(resource.inputs), default=_spell) for resource in program.resources}


def _spell(value: Any) -> Any:
    return vars(value)
