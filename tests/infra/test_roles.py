"""What the roles may do, and who may assume them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.roles import POLICY_CHARACTERS
from tests.builders.deployed import deployed, may_invoke, policy_of
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION, Program
from turnout.manifest.parser import CallNode, Canary, EnsembleNode, Manifest, Model, Routing, SequenceNode

LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda"


def allowed(program: Program, role: str, functions: list[str]) -> list[str]:
    """Return those of the functions that a role may call."""
    statements = policy_of(program.of("iam/rolePolicy:RolePolicy")[role])
    arns = {name: f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:turnout-test_{name}:live" for name in functions}
    return [name for name, arn in arns.items() if may_invoke(statements, arn)]


def test_every_role_is_for_one_service_and_requires_no_key_that_the_service_may_not_send() -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    trusted = {}
    for name, resource in program.of("iam/role:Role").items():
        (statement,) = json.loads(resource.inputs["assumeRolePolicy"])["Statement"]
        assert statement["Action"] == "sts:AssumeRole"
        trusted[name] = statement["Principal"]["Service"]
        # API Gateway names no account when it assumes a role; Lambda may.
        conditions = {"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT}}
        assert statement.get("Condition") == (None if trusted[name].startswith("apigateway") else conditions)
    assert trusted == {
        "models": "lambda.amazonaws.com",
        "router": "lambda.amazonaws.com",
        "guard-rail": "lambda.amazonaws.com",
        "integration": "apigateway.amazonaws.com",
        "api-logs": "apigateway.amazonaws.com",
    }


def test_models_may_only_write_their_logs() -> None:
    statements = policy_of(deployed(manifest()).of("iam/rolePolicy:RolePolicy")["models"])
    assert statements == [
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": [f"{LOGS}/turnout-test_*:log-stream:*"],
        }
    ]


def test_only_tracing_and_reading_alarms_have_no_resource_name() -> None:
    only = model()
    traced = replace(only, versions=(replace(only.versions[0], tracing=True), only.versions[1]))
    program = deployed(manifest((traced,), stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    unnamed = [
        statement["Action"]
        for resource in program.of("iam/rolePolicy:RolePolicy").values()
        for statement in policy_of(resource)
        if "*" in statement["Resource"]
    ]
    tracing = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    assert sorted(unnamed) == [["cloudwatch:DescribeAlarms"], tracing]


def test_no_policy_names_an_action_by_a_pattern() -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    for resource in program.of("iam/rolePolicy:RolePolicy").values():
        assert all("*" not in action for statement in policy_of(resource) for action in statement["Action"])


def graphs() -> Manifest:
    """`outer` calls `inner`, which calls `scaler` and `iris`; `iris` is routed, `other` is unrelated."""
    steps = SequenceNode((CallNode("scaler"), CallNode("iris", inputs={"x": "y"})))
    models = (
        model("scaler", ("v1",)),
        replace(model("iris"), routing=Routing(fallback="v1")),
        model("other", ("v1",)),
        Model("inner", (), graph=steps),
        Model("outer", (), graph=CallNode("inner")),
    )
    return manifest(models, (stage(serve={"scaler": "v1", "iris": "v1", "other": "v1"}),))


def test_router_of_a_graph_may_call_every_version_that_the_graph_reaches_and_no_router() -> None:
    functions = ["scaler_v1", "iris_v1", "iris_v2", "iris_router", "other_v1", "inner_router", "outer_router", "router"]
    program = deployed(graphs())
    reached = ["scaler_v1", "iris_v1", "iris_v2"]
    assert allowed(program, "outer_router", functions) == reached
    assert allowed(program, "inner_router", functions) == reached
    assert allowed(program, "iris_router", functions) == ["iris_v1", "iris_v2"]
    assert allowed(program, "router", functions) == functions[:-1]


def graph_of(models: int) -> Manifest:
    """A graph `all` that calls each of the models."""
    names = [f"customer-segment-{number}" for number in range(models)]
    calls = EnsembleNode(tuple(CallNode(name) for name in names), {"y": "mean"})
    rows = (*(model(name, ("v1",)) for name in names), Model("all", (), graph=calls))
    return manifest(rows, (stage(serve=dict.fromkeys(names, "v1")),))


@pytest.mark.parametrize("models", [10, 60])
def test_policy_of_the_router_of_a_graph_fits_for_any_number_of_models(models: int) -> None:
    program = deployed(graph_of(models))
    for resource in program.of("iam/rolePolicy:RolePolicy").values():
        assert len(resource.inputs["policy"]) <= POLICY_CHARACTERS
    functions = [f"customer-segment-{models - 1}_v1", "all_router", "router"]
    assert allowed(program, "all_router", functions)[:1] == functions[:1]
    assert "all_router" not in allowed(program, "all_router", functions)


def test_guard_rail_may_change_its_stages_and_is_called_only_by_its_rules() -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})), stage("dev"))))
    statements = policy_of(program.of("iam/rolePolicy:RolePolicy")["guard-rail"])
    assert statements[1] == {
        "Effect": "Allow",
        "Action": ["apigateway:GET", "apigateway:PATCH"],
        "Resource": [f"arn:aws:apigateway:{REGION}::/restapis/turnout-test_none-id/stages/prod"],
    }
    permissions = program.of("lambda/permission:Permission")
    assert {permission.inputs["principal"] for permission in permissions.values()} == {"events.amazonaws.com"}
    assert permissions["prod"].inputs["sourceArn"].endswith("EventRule/turnout-test-guard-rail.prod")
    assert permissions["prod.check"].inputs["sourceArn"].endswith("EventRule/turnout-test-guard-rail.prod.check")
    assert allowed(program, "integration", ["iris_v1"]) == ["iris_v1"]
    integration = policy_of(program.of("iam/rolePolicy:RolePolicy")["integration"])
    assert not may_invoke(integration, f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:turnout-test-guard-rail:live")


def test_document_is_imported_once_its_roles_exist() -> None:
    program = deployed(manifest())
    after = {urn.rpartition("::")[2] for urn in program.one("apigateway/restApi:RestApi").after}
    assert {"integration"} <= after
