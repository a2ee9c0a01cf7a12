"""Traffic only moves to versions that can answer it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.manifests import artifacts_of, manifest, model, signature, stage
from turnout.manifest.parser import CallNode, Canary, Manifest, Model, Position, Routing, SequenceNode, Stage
from turnout.plan.planner import make_plan
from turnout.problems import ProblemsError
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

OTHER = signature("FP64")


def plan_with_other_v2(of: Manifest, other: Signature = OTHER) -> tuple[str, ...]:
    """Return the notes of a plan in which v2's signature differs from v1's."""
    plan = make_plan(of, artifacts_of(of, {("iris", "v2"): other}))
    return tuple(f"{note.path}: {note.message}" for note in plan.notes if "compatible" in note.message)


CASES = [
    ("stages.prod.canary.serve.iris", model(), stage(canary=Canary(10, {"iris": "v2"}))),
    ("stages.prod.weights.iris.v2", model(), stage(serve={}, weights={"iris": {"v1": 90, "v2": 10}})),
    ("models.iris.routing.shadow.version", model(routing=Routing(shadow_version="v2", shadow_percent=5)), stage()),
    ("models.iris.routing.fallback", model(routing=Routing(fallback="v2")), stage()),
]


@pytest.mark.parametrize(("path", "of_model", "of_stage"), CASES)
def test_incompatible_target_is_rejected_with_tensor_and_place(path: str, of_model: Model, of_stage: Stage) -> None:
    keys = tuple(path.split("."))
    with pytest.raises(ProblemsError) as raised:
        plan_with_other_v2(manifest((of_model,), (of_stage,), positions={keys: Position(9, 5)}))
    for problem in raised.value.problems:
        assert (problem.path, problem.line, problem.column) == (keys, 9, 5)
        assert problem.message.startswith("`v2` is incompatible with `v1`: ")
        assert "models.iris.versions.v2" in problem.hint
    assert any("`x`" in problem.message for problem in raised.value.problems)
    assert any("`y`" in problem.message for problem in raised.value.problems)


@pytest.mark.parametrize(("path", "of_model", "of_stage"), CASES)
def test_target_with_breaking_is_noted(path: str, of_model: Model, of_stage: Stage) -> None:
    v1, v2 = of_model.versions
    notes = plan_with_other_v2(manifest((replace(of_model, versions=(v1, replace(v2, breaking=True))),), (of_stage,)))
    assert notes
    assert all(note.startswith(f"{path}: ") and "`breaking: true`" in note for note in notes)


def test_breaking_on_the_baseline_does_not_count() -> None:
    v1, v2 = model().versions
    entry = Model("iris", (replace(v1, breaking=True), v2))
    with pytest.raises(ProblemsError):
        plan_with_other_v2(manifest((entry,), (stage(canary=Canary(10, {"iris": "v2"})),)))


@pytest.mark.parametrize(("path", "of_model", "of_stage"), CASES)
def test_equal_signatures_may_take_traffic(path: str, of_model: Model, of_stage: Stage) -> None:
    assert plan_with_other_v2(manifest((of_model,), (of_stage,)), signature()) == ()


def test_stages_that_serve_different_versions_are_not_replacements() -> None:
    assert plan_with_other_v2(manifest(stages=(stage("dev", {"iris": "v2"}), stage("prod")))) == ()


def test_canary_is_compared_with_every_weighted_version() -> None:
    of_stage = stage(serve={}, weights={"iris": {"v1": 50, "v3": 50}}, canary=Canary(10, {"iris": "v2"}))
    with pytest.raises(ProblemsError) as raised:
        plan_with_other_v2(manifest((model(versions=("v1", "v2", "v3")),), (of_stage,)))
    reasons = {problem.message.split(":")[0] for problem in raised.value.problems}
    assert reasons == {"`v2` is incompatible with `v1`", "`v2` is incompatible with `v3`"}


def test_fallback_is_compared_with_what_a_canary_serves() -> None:
    of = manifest(
        (model(versions=("v1", "v2", "v3"), routing=Routing(fallback="v1")),),
        (stage(canary=Canary(10, {"iris": "v3"})),),
    )
    with pytest.raises(ProblemsError) as raised:
        make_plan(of, artifacts_of(of, {("iris", "v3"): OTHER}))
    assert ("models", "iris", "routing", "fallback") in {problem.path for problem in raised.value.problems}


def test_fallback_is_compared_with_a_version_for_which_a_graph_lets_it_answer() -> None:
    changed = model(routing=Routing(fallback="v1"))
    of_stage = stage(serve={"iris": "v1"})
    pinned = Model("triage", (), graph=CallNode("iris", "v2"))
    allowed = replace(pinned, graph=SequenceNode((CallNode("iris", "v2", {}, {"y": "z"}, fallback=True),)))
    assert plan_with_other_v2(manifest((changed, pinned), (of_stage,))) == ()
    with pytest.raises(ProblemsError) as raised:
        plan_with_other_v2(manifest((changed, allowed), (of_stage,)))
    for problem in raised.value.problems:
        assert problem.path == ("models", "triage", "graph", "sequence", 0, "fallback")
        assert problem.message.startswith("`v1` is incompatible with `v2`: ")


def moving(*names: str) -> tuple[Stage, ...]:
    """Stages of which these serve the newest version, and one that does not."""
    newest = frozenset({"iris"})
    return (*(stage(name, serve={"iris": "v2"}, newest=newest) for name in names), stage("fixed", serve={"iris": "v1"}))


def test_incompatible_newest_is_rejected_with_the_stages_that_move() -> None:
    with pytest.raises(ProblemsError) as raised:
        plan_with_other_v2(manifest((model(),), moving("dev", "prod")))
    for problem in raised.value.problems:
        assert problem.path == ("models", "iris", "versions", "v2")
        assert problem.message.startswith("`v2` is incompatible with `v1`: ")
        assert problem.message.endswith('. `"*": newest` moves dev, prod from iris v1 to v2')
        assert "serve `iris: v1` in stages.dev, stages.prod" in problem.hint


def test_newest_with_breaking_is_noted_with_the_stages_that_move() -> None:
    v1, v2 = model().versions
    entry = Model("iris", (v1, replace(v2, breaking=True)))
    notes = plan_with_other_v2(manifest((entry,), moving("dev")))
    assert notes
    for note in notes:
        assert note.endswith('`"*": newest` moves dev from iris v1 to v2; allowed by `breaking: true`')


def test_newest_is_compared_only_with_the_version_before_it() -> None:
    v1, v2 = model().versions
    entry = Model("iris", (v1, replace(v2, breaking=True), replace(v2, name="v3")))
    of = manifest((entry,), moving("dev")[:1])
    of = replace(of, stages=(replace(of.stages[0], serve={"iris": "v3"}),))
    make_plan(of, artifacts_of(of, {("iris", "v2"): OTHER, ("iris", "v3"): OTHER}))


def test_newest_that_was_not_read_is_noted() -> None:
    v1, v2 = model().versions
    entry = Model("iris", (v1, replace(v2, artifact="s3://bucket/v2.onnx", sha256="0" * 64)))
    of = manifest((entry,), moving("dev"))
    artifacts = {key: value for key, value in artifacts_of(of).items() if key != ("iris", "v2")}
    (note,) = [note for note in make_plan(of, artifacts).notes if "cannot check whether" in note.message]
    assert note.path == "models.iris.versions.v2"
    assert note.message.startswith('`"*": newest` moves dev from iris v1 to v2: ')


def test_version_without_a_signature_is_skipped() -> None:
    v1, v2 = model().versions
    of = manifest(
        (Model("iris", (v1, replace(v2, artifact="s3://bucket/key", sha256="a" * 64))),),
        (stage(canary=Canary(10, {"iris": "v2"})),),
    )
    artifacts = artifacts_of(of)
    del artifacts["iris", "v2"]
    assert [note.path for note in make_plan(of, artifacts).notes] == ["models.iris.versions.v2.artifact"]


def test_other_outputs_are_reported_by_name() -> None:
    other = Signature(signature().inputs, (TensorSpec("z", "FP32", (-1, 4)),))
    with pytest.raises(ProblemsError, match="output `y` is missing"):
        plan_with_other_v2(manifest(stages=(stage(canary=Canary(10, {"iris": "v2"})),)), other)
