"""Quotas: counted as AWS counts them, rejected or noted with both numbers and the remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.manifests import artifact, artifacts_of, large_manifest, manifest, model, signature, stage
from turnout.manifest.parser import AccountQuotas, CallNode, Canary, Manifest, Model, Position, SequenceNode, Version
from turnout.openapi.document import build_document, check_document, render_document
from turnout.plan.checks.quotas import MB, count_resources, find_tightest, fits_zip, is_stored, spell_amount
from turnout.plan.checks.size_estimates import JSON_BYTES, estimate_payload
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan, Quota
from turnout.problems import Problem, ProblemsError
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec


def plan_of(of: Manifest, **options: object) -> Plan:
    return make_plan(of, artifacts_of(of), **options)  # type: ignore[arg-type]


def raised(of: Manifest) -> Manifest:
    """Return the plan for an account whose APIs may have more resources."""
    return replace(of, quotas=AccountQuotas(resources=1000))


def quota_of(plan: Plan, name: str) -> Quota:
    (result,) = find_tightest(quota for quota in plan.quotas if quota.name == name)
    return result


def problem_of(of: Manifest, **options: object) -> Problem:
    with pytest.raises(ProblemsError) as raised:
        plan_of(of, **options)
    (problem,) = raised.value.problems
    return problem


# `/`, `/models` and its two parameters, three for health, the document, four for the Open Inference Protocol; two per
# model, two per version.
@pytest.mark.parametrize(("models", "versions", "resources"), [(1, 1, 16), (1, 2, 18), (42, 2, 264), (50, 1, 212)])
def test_resources_are_counted_with_their_parents(models: int, versions: int, resources: int) -> None:
    plan = plan_of(large_manifest(models, versions))
    assert count_resources(plan.apis[0].routes) == resources
    assert quota_of(plan, "resources").used == resources


# `/v2/models`, three per model, two per version.
@pytest.mark.parametrize("choice", ["proxy", "direct", "off"])
def test_resources_of_every_way_to_serve_open_inference_are_reported(choice: str) -> None:
    plan = plan_of(replace(large_manifest(10, 2), open_inference=choice))
    assert plan.resources == {"proxy": 72, "direct": 72 + 1 + 3 * 10 + 2 * 20, "off": 68}
    assert quota_of(plan, "resources").used == plan.resources[choice]


def test_cheaper_way_to_serve_open_inference_is_suggested_if_there_are_too_many_resources() -> None:
    problem = problem_of(replace(large_manifest(30, 2), open_inference="direct"))
    assert "403 used, 300 allowed" in problem.message
    assert "`open_inference: proxy` takes 192." in problem.hint


def test_300_resources_are_allowed() -> None:
    assert plan_of(large_manifest(48, 2)).notes == ()


def test_more_than_300_resources_are_an_error_that_explains_sharding() -> None:
    problem = problem_of(large_manifest(49, 2))
    assert problem.path == ("models",)
    assert "306 used, 300 allowed" in problem.message
    assert "Shard" in problem.hint


@pytest.mark.parametrize(("characters", "refused"), [(4096 - 10 - 22, False), (4097 - 10 - 22, True)])
def test_environment_is_limited_to_4_kb(characters: int, refused: bool) -> None:
    version = Version("iris", "v1", "a.onnx", environment={"VOCABULARY": "x" * characters})
    of = manifest((Model("iris", (version,)),))
    if refused:
        problem = problem_of(of)
        assert problem.path == ("models", "iris", "versions", "v1", "environment")
        assert "4.0 KB allowed" in problem.message
    else:
        assert quota_of(plan_of(of), "environment").used == 4096


def test_routers_with_the_longest_timeout_cause_no_warning() -> None:
    of = manifest(stages=(stage(serve={}, weights={"iris": {"v1": 50, "v2": 50}}),))
    assert {quota.subject for quota in plan_of(of).quotas if quota.name == "timeout"} == {
        "turnout-local_iris_v1",
        "turnout-local_iris_v2",
    }


def test_stage_may_have_100_variables() -> None:
    assert quota_of(plan_of(raised(large_manifest(98, 1))), "stage variables").used == 100


def test_stage_with_more_variables_is_rejected_at_its_place() -> None:
    rows = tuple(model(f"m{number}", ("v1",)) for number in range(99))
    serve = {entry.name: "v1" for entry in rows}
    positions = {("stages", "prod"): Position(120, 3)}
    of = raised(manifest(rows, (stage("prod", serve),), positions=positions, routes="direct"))
    problem = problem_of(of)
    assert "101 used, 100 allowed" in problem.message
    assert (problem.line, problem.column) == (120, 3)
    assert "models.yaml" in problem.hint


def test_variables_of_only_the_canary_count_too() -> None:
    rows = tuple(model(f"m{number}", ("v1",)) for number in range(98))
    plain = stage(serve={entry.name: "v1" for entry in rows}, canary=Canary(10, {"m0": "v1"}))
    assert quota_of(plan_of(raised(manifest(rows, (plain,), routes="direct"))), "stage variables").used == 100


def test_route_longer_than_a_variable_is_rejected() -> None:
    names = tuple(f"version-number-{number}" for number in range(30))
    weights = {"iris": dict.fromkeys(names, 100 / 30)}
    problem = problem_of(manifest((model(versions=names),), (stage(serve={}, weights=weights),)))
    assert problem.path == ("stages", "prod", "weights")
    assert "512 characters allowed" in problem.message


@pytest.mark.parametrize(("length", "refused"), [(47, False), (48, True)])
def test_function_name_may_have_64_characters(length: int, refused: bool) -> None:
    name = "m" * length  # turnout-local_ and _v1 are 17 characters
    of = manifest((model(name, ("v1",)),), (stage(serve={name: "v1"}),))
    if refused:
        assert "65 characters used, 64 characters allowed" in problem_of(of).message
    else:
        assert quota_of(plan_of(of), "function's name").used == 64


def test_eleventh_stage_is_an_error() -> None:
    stages = tuple(stage(f"s{number}") for number in range(11))
    assert problem_of(manifest(stages=stages)).path == ("stages",)
    assert plan_of(manifest(stages=stages[:10])).notes == ()


def sized(size_bytes: int) -> tuple[Manifest, Plan]:
    of = manifest((Model("iris", (Version("iris", "v1", "a.onnx"),)),))
    return of, make_plan(of, {("iris", "v1"): artifact("a", size_bytes=size_bytes)})


def test_model_with_a_package_over_250_mb_is_fetched_from_s3() -> None:
    _, plan = sized(200 * MB)
    assert plan.packages[0].artifact_bytes == 0
    assert quota_of(plan, "model fetched to /tmp").used == 200 * MB


@pytest.mark.parametrize(
    ("runtime", "requirements", "size_mb", "stored"),
    [
        ("onnx", (), 150, False),
        ("onnx", ("pillow",), 120, False),
        ("onnx", ("pillow",), 150, True),
        ("python", (), 200, False),
        ("python", ("scipy",), 60, False),
        ("python", ("scipy",), 80, True),
    ],
)
def test_a_version_with_packages_of_its_own_leaves_room_for_them(
    runtime: str, requirements: tuple[str, ...], size_mb: int, stored: bool
) -> None:
    version = Version("m", "v1", "m.onnx", runtime=runtime, requirements=requirements)
    assert is_stored(version, size_mb * MB) is stored
    has_own = bool(requirements)
    assert fits_zip(size_mb * MB, runtime, "arm64", has_own_packages=has_own) is not stored


def test_model_that_does_not_fit_into_tmp_is_rejected_with_the_setting_to_change() -> None:
    with pytest.raises(
        ProblemsError, match=r"600.0 MB used, 512.0 MB allowed\n.*`ephemeral_storage_mb` to 600 or more"
    ):
        sized(600 * MB)


def test_package_over_50_mb_is_sent_through_s3_and_noted() -> None:
    _, plan = sized(51 * MB)
    (note,) = plan.notes
    assert note.path == "models.iris.versions.v1.artifact"
    assert "S3" in note.message


def test_exceeded_quotas_are_notes_if_not_enforced() -> None:
    of = large_manifest(200, 1, stages=1)
    plan = plan_of(of, enforce=False)
    assert {note.path for note in plan.notes} == {"models", "stages.s0"}
    assert quota_of(plan, "stage variables").exceeded


def request(datatype: str, *shape: int, **fields: object) -> Signature:
    return Signature((TensorSpec("x", datatype, shape, **fields),), ())  # type: ignore[arg-type]


# A model whose only valid request is 12.5 MB of JSON or 5.8 MB of floats fits in neither form: the floats are 7.7 MB in
# base64.
@pytest.mark.parametrize(
    ("tensors", "noted"),
    [
        (request("FP32", -1, 4), []),
        (request("FP32", 1, 3, 224, 224), []),
        (request("FP32", 1, 1_000_000), ["as JSON"]),
        (request("FP32", 1, 1_450_000), ["as JSON", "in binary"]),
        (request("FP32", -1, 1_450_000), ["as JSON", "in binary"]),
        (request("FP32", 1, 1_450_000, required=False), []),
        (request("UINT8", 1, 2_000_000), ["as JSON"]),
    ],
)
def test_version_whose_smallest_request_is_too_large_is_noted(tensors: Signature, noted: list[str]) -> None:
    of = manifest((model(versions=("v1",)),))
    plan = make_plan(of, artifacts_of(of, {("iris", "v1"): tensors}))
    assert [note.path for note in plan.notes] == ["models.iris.versions.v1"] * len(noted)
    for note, form in zip(plan.notes, noted, strict=True):
        assert f"smallest request {form}" in note.message
        assert "6.0 MB allowed" in note.message


def test_payload_counts_base64_of_the_tensor_bytes() -> None:
    million = estimate_payload(request("FP32", 1, 1_000_000)).binary_bytes
    assert million - estimate_payload(request("FP32", 1, 0)).binary_bytes == pytest.approx(4_000_000 * 4 / 3, abs=4)


def test_payload_size_is_known_for_every_datatype() -> None:
    assert set(JSON_BYTES) == set(DATATYPES)


def test_estimated_document_size_is_within_a_quarter_of_the_real_one() -> None:
    wide = Signature(
        tuple(TensorSpec(f"a/rather:long.name_{number}", "FP32", (-1, 3)) for number in range(60)),
        (TensorSpec("y", "INT64", (-1,)),),
    )
    image = Signature((TensorSpec("x", "FP32", (1, 16, 16)),), (TensorSpec("y", "FP32", (1,)),))
    direct = replace(large_manifest(10, 2), open_inference="direct")
    graph = Model("chain", (), graph=SequenceNode((CallNode("iris", "v1"),)))
    for of in (
        manifest(),
        large_manifest(10, 1),
        large_manifest(1, 20),
        large_manifest(20, 3),
        direct,
        manifest((model(), graph)),
    ):
        for tensors in (signature(), wide, image):
            plan = make_plan(of, artifacts_of(of, dict.fromkeys(artifacts_of(of), tensors)))
            truth = len(render_document(build_document(plan, plan.apis[0])))
            assert quota_of(plan, "document, estimated").used == pytest.approx(truth, rel=0.25)


def test_document_over_6_mb_is_rejected_with_both_numbers() -> None:
    plan = plan_of(large_manifest(500, 2), enforce=False)
    assert quota_of(plan, "document, estimated").exceeded
    with pytest.raises(ProblemsError, match=r"document: .* MB used, 6.0 MB allowed"):
        check_document(build_document(plan, plan.apis[0]))


def test_document_within_its_quotas_is_measured() -> None:
    plan = plan_of(manifest())
    document = build_document(plan, plan.apis[0])
    whole, schema = check_document(document)
    assert whole.used == len(render_document(document))
    assert schema.subject in document["components"]["schemas"]


def test_schema_over_400_kb_is_rejected() -> None:
    tensors = tuple(TensorSpec(f"weight_{number:090}", "FP32", (1,)) for number in range(5000))
    of = manifest((model(versions=("v1",)),))
    plan = make_plan(of, artifacts_of(of, {("iris", "v1"): Signature(tensors, tensors[:1])}))
    assert quota_of(plan, "largest schema, estimated").exceeded
    with pytest.raises(ProblemsError, match="largest schema"):
        check_document(build_document(plan, plan.apis[0]))


def test_tightest_is_the_fullest_quota_of_each_name() -> None:
    rows = [Quota("a", "x", 1, 10), Quota("b", "x", 5, 10), Quota("a", "y", 3, 10)]
    assert [(quota.name, quota.subject) for quota in find_tightest(rows)] == [("a", "y"), ("b", "x")]


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(100, "", "100"), (1234, "", "1,234"), (29, "s", "29 s"), (512, "bytes", "512 B"), (2048, "bytes", "2.0 KB"),
     (6 * MB, "bytes", "6.0 MB"), (2.5, "s", "2.5 s")],
)  # fmt: skip
def test_amounts_are_reported_with_their_unit(amount: float, unit: str, text: str) -> None:
    assert spell_amount(amount, unit) == text
