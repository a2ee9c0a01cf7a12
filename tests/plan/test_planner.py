"""make_plan: functions, routes, stages, APIs and packages."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.builders.manifests import Artifacts, artifacts_of, large_manifest, manifest, model, signature, stage
from turnout.manifest.parser import (
    AccountQuotas,
    Canary,
    Capture,
    Jwt,
    Manifest,
    Model,
    Position,
    Routing,
    Slo,
    Stage,
    Sticky,
    Throttle,
    Version,
    Warm,
)
from turnout.manifest.settings import Settings
from turnout.plan.as_json import plan_to_json
from turnout.plan.planner import make_plan
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import Api, Plan, RuntimeSizes, StagePlan
from turnout.problems import Problem, ProblemsError
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE, find_known
from turnout.protocol.routing.packed_choices import expand_choices, unpack_choices


def plan_of(of: Manifest, artifacts: Artifacts | None = None, **options: object) -> Plan:
    return make_plan(of, artifacts_of(of) if artifacts is None else artifacts, **options)  # type: ignore[arg-type]


def only_stage(plan: Plan) -> StagePlan:
    ((result,),) = (api.stages for api in plan.apis)
    return result


def problems_of(of: Manifest, artifacts: Artifacts | None = None, **options: object) -> tuple[Problem, ...]:
    with pytest.raises(ProblemsError) as raised:
        plan_of(of, artifacts, **options)
    return raised.value.problems


def test_every_version_has_a_function_and_a_route() -> None:
    plan = plan_of(manifest())
    assert [function.name for function in plan.functions if function.kind == "model"] == [
        "turnout-local_iris_v1",
        "turnout-local_iris_v2",
    ]
    assert [(route.method, route.path, route.function) for route in plan.apis[0].routes if route.model] == [
        ("POST", "/models/iris/inference", "turnout-local_iris_${stageVariables.iris}"),
        ("POST", "/models/iris/v1/inference", "turnout-local_iris_v1"),
        ("POST", "/models/iris/v2/inference", "turnout-local_iris_v2"),
    ]


def test_function_has_the_settings_of_its_version() -> None:
    settings = Settings(
        architecture="x86_64",
        memory_mb=512,
        timeout_s=20,
        warm=Warm(provisioned=2),
        reserved_concurrency=3,
        ephemeral_storage_mb=1024,
        environment={"VOCABULARY": "large"},
        tracing=True,
        slo=Slo(200, 1),
        capture=Capture(5, ("x",)),
    )
    version = Version(
        "iris", "v1", "a.onnx", **{field.name: getattr(settings, field.name) for field in fields(settings)}
    )
    plan = plan_of(manifest((Model("iris", (version,)),)))
    function, _ = plan.functions
    assert (function.kind, function.model, function.version) == ("model", "iris", "v1")
    assert function.settings == settings
    assert function.package == plan.packages[0].name


def test_paths_that_belong_to_no_model_use_the_general_router() -> None:
    plan = plan_of(manifest())
    general = plan.functions[-1]
    assert (general.name, general.kind, general.package) == ("turnout-local_router", "general_router", "router")
    assert [
        (route.method, route.path, route.kind) for route in plan.apis[0].routes if route.function == general.name
    ] == [
        ("GET", "/models", "catalogue"),
        ("GET", "/models/{model}", "catalogue"),
        ("GET", "/models/{model}/{version}", "catalogue"),
        ("GET", "/health/live", "health"),
        ("GET", "/health/ready", "health"),
        ("GET", "/openapi.json", "document"),
        ("ANY", "/v2", "open_inference"),
        ("GET", "/v2/health/{check}", "health"),
        ("ANY", "/v2/{proxy+}", "open_inference"),
    ]


def test_open_inference_may_be_direct_or_off() -> None:
    def routes(choice: str) -> set[tuple[str, str]]:
        (api,) = plan_of(replace(manifest(), open_inference=choice)).apis
        return {(route.path, route.function) for route in api.routes if route.kind == "open_inference"}

    general = {("/v2", "turnout-local_router"), ("/v2/{proxy+}", "turnout-local_router")}
    assert routes("off") == set()
    assert routes("proxy") == general
    assert routes("direct") == general | {
        ("/v2/models/iris/infer", "turnout-local_iris_${stageVariables.iris}"),
        ("/v2/models/iris/versions/v1/infer", "turnout-local_iris_v1"),
        ("/v2/models/iris/versions/v2/infer", "turnout-local_iris_v2"),
    }


def test_stack_and_platform_are_part_of_every_name() -> None:
    plan = plan_of(manifest(platform="acme"), stack="euprod")
    assert plan.functions[0].name == "acme-euprod_iris_v1"
    assert plan.apis[0].name == "acme-euprod_none"


def test_integrations_always_have_the_full_29_seconds() -> None:
    assert {route.timeout_ms for route in plan_of(manifest()).apis[0].routes} == {29_000}


def test_raised_timeout_applies_to_every_route_and_router() -> None:
    of = replace(manifest((model(routing=Routing(fallback="v1")),)), quotas=AccountQuotas(integration_timeout_s=60))
    plan = plan_of(of)
    assert {route.timeout_ms for api in plan.apis for route in api.routes} == {60_000}
    assert {entry.settings.timeout_s for entry in plan.functions if entry.kind != "model"} == {60}
    slow = replace(of.models[0], versions=tuple(replace(entry, timeout_s=50) for entry in of.models[0].versions))
    assert not [entry for entry in plan_of(replace(of, models=(slow,))).quotas if entry.exceeded]
    assert [entry for entry in plan_of(manifest((slow,))).quotas if entry.exceeded]


def test_model_with_several_words_has_a_variable_in_camel_case() -> None:
    plan = plan_of(manifest((model("bert-base", ("1-2",)),), (stage(serve={"bert-base": "1-2"}),)))
    assert only_stage(plan).variables["bertBase"] == "1-2"
    assert plan.apis[0].routes[0].function == "turnout-local_bert-base_${stageVariables.bertBase}"


WEIGHTS = {"iris": {"v1": 90.0, "v2": 10.0}}


@pytest.mark.parametrize(
    ("case", "models", "stages", "variables"),
    [
        ("one version", model(), stage(), {"iris": "v1"}),
        ("weights", model(), stage(serve={}, weights=WEIGHTS), {"iris": "router", "irisRoute": "v1.90,v2.10"}),
        (
            "fractions",
            model(),
            stage(serve={}, weights={"iris": {"v1": 99.99999, "v2": 0.00001}}),
            {"iris": "router", "irisRoute": "v1.99.99999,v2.0.00001"},
        ),
        (
            "routing",
            model(routing=Routing(sticky=Sticky("header", "x-user-id"))),
            stage(),
            {"iris": "router", "irisRoute": "v1.100"},
        ),
    ],
)
def test_stage_variables_are_the_routing_table(
    case: str, models: Model, stages: Stage, variables: dict[str, str]
) -> None:
    plan = plan_of(manifest((models,), (stages,)))
    assert only_stage(plan).variables == {**variables, "alias": "live", "canary": "false"}, case


@pytest.mark.parametrize(
    ("routing", "stages", "overrides"),
    [
        (Routing(), stage(canary=Canary(10, {"iris": "v2"})), {"iris": "v2", "canary": "true"}),
        (Routing(), stage(canary=Canary(10, {}, release=True)), {"canary": "true", "alias": "next"}),
        (
            Routing(sticky=Sticky("header", "x-user-id")),
            stage(canary=Canary(10, {"iris": "v2"})),
            {"irisRoute": "v2.100", "canary": "true"},
        ),
        # The canary's share calls a weighted model without stickiness in one hop.
        (
            Routing(),
            stage(serve={}, weights=WEIGHTS, canary=Canary(10, {"iris": "v2"})),
            {"iris": "v2", "canary": "true"},
        ),
    ],
)
def test_canary_overrides_what_it_moves(routing: Routing, stages: Stage, overrides: dict[str, str]) -> None:
    canary = only_stage(plan_of(manifest((model(routing=routing),), (stages,)))).canary
    assert canary is not None
    assert canary.overrides == overrides
    assert canary.percent == 10


def test_stage_keeps_its_throttle_and_authentication() -> None:
    result = only_stage(plan_of(manifest(stages=(stage(auth="api_key", throttle=Throttle(100, 200)),))))
    assert (result.auth, result.throttle, result.canary) == ("api_key", Throttle(100, 200), None)


def test_stage_keeps_its_slo_its_override_and_its_issuer() -> None:
    issuer = Jwt("https://login.example.com", ("me",))
    plan = plan_of(manifest(stages=(stage(auth="jwt", jwt=issuer, slo=Slo(300, 1), version_override=True),)))
    result = only_stage(plan)
    assert (result.slo, result.version_override, result.jwt) == (Slo(300, 1), True, issuer)
    assert plan.apis[0].jwt == issuer


def test_stage_with_an_issuer_has_its_own_api() -> None:
    issuer = Jwt("https://login.example.com", ("me",))
    stages = (stage("dev", auth="jwt", jwt=issuer), stage("prod", auth="jwt", jwt=Jwt("https://b", ("b",))))
    apis = plan_of(manifest(stages=stages)).apis
    assert [(api.name, api.auth, api.stages[0].name) for api in apis] == [
        ("turnout-local_jwt_dev", "jwt", "dev"),
        ("turnout-local_jwt_prod", "jwt", "prod"),
    ]


@pytest.mark.parametrize(
    "of",
    [
        manifest(stages=(stage("dev"), stage("prod", {}, weights=WEIGHTS))),
        manifest((model(routing=Routing(fallback="v1")),)),
    ],
    ids=["weights", "routing"],
)
def test_only_a_model_that_needs_a_router_gets_one(of: Manifest) -> None:
    other = model("digits", ("v1",))
    stages = tuple(replace(entry, serve={**entry.serve, "digits": "v1"}) for entry in of.stages)
    plan = plan_of(replace(of, models=(*of.models, other), stages=stages))
    routers = [function for function in plan.functions if function.kind == "router"]
    assert [(router.name, router.model, router.version) for router in routers] == [
        ("turnout-local_iris_router", "iris", "")
    ]
    assert [package.name for package in plan.packages] == ["iris_v1", "iris_v2", "iris_router", "digits_v1", "router"]


def test_stages_with_equal_documents_share_an_api() -> None:
    stages = (stage("dev"), stage("prod", auth="api_key"), stage("test"), stage("live", auth="api_key"))
    apis = plan_of(manifest(stages=stages)).apis
    assert [(api.name, api.auth, [entry.name for entry in api.stages]) for api in apis] == [
        ("turnout-local_none", "none", ["dev", "test"]),
        ("turnout-local_api_key", "api_key", ["prod", "live"]),
    ]
    assert apis[0].routes == apis[1].routes


def test_api_keeps_its_name_when_stages_are_added_before_it() -> None:
    def names(*stages: Stage) -> dict[str, str]:
        return {stage.name: api.name for api in plan_of(manifest(stages=stages)).apis for stage in api.stages}

    before = names(stage("prod", auth="api_key"))
    after = names(stage("dev"), stage("prod", auth="api_key"))
    assert after["prod"] == before["prod"]


def test_package_counts_model_code_and_layer() -> None:
    of = manifest((Model("iris", (Version("iris", "v1", "a.onnx", architecture="x86_64"),)),))
    sizes = RuntimeSizes(code_bytes=7, layer_bytes={"onnx": {"x86_64": 11, "arm64": 13}})
    package, router = plan_of(of, runtime=sizes).packages
    assert (package.artifact_bytes, package.code_bytes, package.layer_bytes) == (1000, 7, 11)
    assert package.sha256 == artifacts_of(of)["iris", "v1"].sha256
    assert (router.artifact_bytes, router.layer_bytes) == (0, 0)


def test_version_in_s3_is_planned_without_its_signature() -> None:
    version = Version("iris", "v1", "s3://bucket/key", "a" * 64)
    plan = plan_of(manifest((Model("iris", (version,)),)), {})
    assert plan.functions[0].name == "turnout-local_iris_v1"
    assert (plan.versions[0].sha256, plan.versions[0].size_bytes) == ("a" * 64, 0)
    assert plan.versions[0].signature.inputs == ()
    assert plan.packages[0].artifact_bytes == 0


def test_descriptions_are_kept() -> None:
    plan = plan_of(manifest((model(description="Iris species."),)))
    assert plan.descriptions == {"iris": "Iris species."}


def test_missing_artifact_is_reported_at_its_key() -> None:
    path = ("models", "iris", "versions", "v2", "artifact")
    of = manifest(positions={path: Position(7, 23)})
    artifacts = artifacts_of(of)
    del artifacts["iris", "v2"]
    (problem,) = problems_of(of, artifacts)
    assert (problem.path, problem.line, problem.column) == (path, 7, 23)
    assert "was not read" in problem.message


def test_unknown_authentication_is_reported_at_its_key() -> None:
    (problem,) = problems_of(manifest(stages=(stage(auth="oauth"),)))
    assert problem.path == ("stages", "prod", "auth")
    assert "oauth" in problem.message


@pytest.mark.parametrize("stack", ["", "a.b", "a_b", "é"])
def test_stack_with_a_name_that_functions_cannot_have_is_rejected(stack: str) -> None:
    (problem,) = problems_of(manifest(), stack=stack)
    assert f"`{stack}`" in problem.message


def test_route_variable_with_the_name_of_another_model_variable_is_rejected() -> None:
    models = (model(routing=Routing(fallback="v1")), model("iris-route"))
    (problem,) = problems_of(manifest(models, (stage(serve={"iris": "v1", "iris-route": "v1"}),)))
    assert problem.path == ("models", "iris-route")
    assert "`irisRoute`" in problem.message


def test_all_problems_are_reported_together() -> None:
    of = manifest((model("a" * 60, ("v1",)),), (stage(serve={"a" * 60: "v1"}, auth="oauth"),))
    assert len(problems_of(of, {})) == 3


def test_json_contains_every_field_of_the_plan() -> None:
    canary = Canary(10, {"iris": "v2"})
    plan = plan_of(manifest(stages=(stage(canary=canary, throttle=Throttle(1, 2)), stage("test"))))
    tree = plan_to_json(plan)
    assert set(tree) == set(Plan.__slots__)  # type: ignore[attr-defined]
    assert set(tree["apis"][0]) == set(Api.__slots__)  # type: ignore[attr-defined]
    assert tree["apis"][0]["stages"][0]["canary"]["overrides"] == {"iris": "v2", "canary": "true"}
    assert tree["apis"][0]["stages"][0]["throttle"] == {"rate": 1, "burst": 2}
    assert tree["apis"][0]["stages"][1]["canary"] is None
    assert tree["versions"][0]["signature"] == signature().to_json()


def test_artifacts_of_different_versions_are_not_confused() -> None:
    of = manifest()
    artifacts = artifacts_of(of)
    digests = {
        (version.version.model, version.version.name): version.sha256 for version in plan_of(of, artifacts).versions
    }
    assert digests == {key: artifact.sha256 for key, artifact in artifacts.items()}
    assert len(set(digests.values())) == 2


def test_models_share_their_routes_if_an_api_is_too_small_for_all() -> None:
    few, many = (replace(large_manifest(number, 2), routes="auto") for number in (48, 49))
    assert make_plan(few, artifacts_of(few)).shared == frozenset()
    plan = make_plan(many, artifacts_of(many))
    assert plan.shared == {model.name for model in many.models}
    assert plan.resources["proxy"] < 20
    # Each still has its own variable, until there are too many for a stage.
    assert plan.apis[0].stages[0].variables["m0"] == "v2"
    more = replace(large_manifest(97, 1), routes="auto")
    variables = make_plan(more, artifacts_of(more)).apis[0].stages[0].variables
    assert variables["choice1"].startswith("m0.v1,m1.v1,")
    assert "m0" not in variables


def test_named_models_keep_their_own_routes_and_variables() -> None:
    of = replace(large_manifest(200, 1), routes="auto")
    of = replace(of, models=tuple(replace(model, is_direct=model.name == "m7") for model in of.models))
    plan = make_plan(of, artifacts_of(of))
    assert plan.shared == {model.name for model in of.models} - {"m7"}
    assert [route.path for route in plan.apis[0].routes if route.model] == [
        "/models/m7/inference",
        "/models/m7/v1/inference",
    ]
    variables = plan.apis[0].stages[0].variables
    assert variables["m7"] == "v1"
    assert "m7" not in unpack_choices(variables)


def test_canary_of_packed_choices_overrides_the_variable_of_its_model() -> None:
    of = replace(large_manifest(200, 2, stages=1), routes="shared")
    (only,) = of.stages
    of = replace(of, stages=(replace(only, canary=Canary(10, {"m199": "v1"})),))
    (planned,) = make_plan(of, artifacts_of(of)).apis[0].stages
    assert planned.canary is not None
    (name,) = planned.canary.overrides.keys() - {"canary"}
    seen = unpack_choices({**planned.variables, **planned.canary.overrides})
    assert {name for name, version in seen.items() if version != "v2"} == {"m199"}
    assert name in planned.variables


def test_ten_thousand_models_are_in_a_table_and_a_canary_moves_one() -> None:
    of = replace(large_manifest(10_000, 1, stages=1), routes="shared")
    first = of.models[0]
    of = replace(of, models=(replace(first, versions=(*first.versions, Version("m0", "v2", "m.onnx"))), *of.models[1:]))
    (only,) = of.stages
    before, after = (
        plan_stage(replace(only, canary=canary), of.models, packed=find_packed(of))
        for canary in (None, Canary(10, {"m0": "v2"}))
    )
    assert before.variables.keys() == {TABLE_VARIABLE, "alias", "canary"}
    assert after.variables == before.variables
    assert after.canary is not None
    assert after.canary.overrides.keys() == {TABLE_VARIABLE, "canary"}
    assert {*before.tables} == {before.variables[TABLE_VARIABLE]}
    assert {*after.tables} == {before.variables[TABLE_VARIABLE], after.canary.overrides[TABLE_VARIABLE]}
    tables = find_known(after.tables)
    baseline = expand_choices(after.variables, tables)
    seen = expand_choices({**after.variables, **after.canary.overrides}, tables)
    assert {name for name in seen if seen[name] != baseline[name]} == {"m0", "canary"}
    assert len(baseline) == 10_002


@pytest.mark.parametrize(("models", "form"), [(96, "own"), (97, "packed"), (3000, "packed"), (8000, "table")], ids=str)
def test_form_of_the_choices_depends_on_the_number_of_models(models: int, form: str) -> None:
    of = replace(large_manifest(models, 1, stages=1), routes="auto")
    planned = plan_stage(of.stages[0], of.models, packed=find_packed(of))
    form_of = "table" if TABLE_VARIABLE in planned.variables else "own" if "m0" in planned.variables else "packed"
    assert form_of == form
    assert len(planned.variables) <= 100
    assert bool(planned.tables) == (form == "table")


def test_model_with_the_name_of_packed_choices_is_rejected() -> None:
    of = manifest((model("choice1"), model("choice")), (stage(serve={"choice1": "v1", "choice": "v1"}),))
    with pytest.raises(
        ProblemsError, match=r"models\.choice1: `choice1` is a reserved name: it is a stage variable"
    ) as raised:
        make_plan(of, artifacts_of(of))
    assert [problem.path for problem in raised.value.problems] == [("models", "choice1")]
