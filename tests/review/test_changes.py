"""What changes between two manifests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.manifests import artifacts_of, manifest, model, signature, stage
from turnout.manifest.parser import Canary, Domain, Manifest, Throttle, Warm
from turnout.plan.costs import estimate_costs
from turnout.plan.planner import make_plan
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.review.changes import BREAKING, COLD_START, CONTRACT, COST, QUOTA, TRAFFIC, Change, Reviewed, find_changes
from turnout.review.report import render_markdown, render_text

WIDER = Signature((TensorSpec("x", "FP32", (-1, 5)),), (TensorSpec("z", "FP32", (-1, 4)),))


def reviewed(of: Manifest, tensors: dict[tuple[str, str], Signature] | None = None) -> Reviewed:
    plan = make_plan(of, artifacts_of(of, tensors), enforce=False)
    return Reviewed(of, plan, estimate_costs(plan, of))


def changes_of(before: Manifest, after: Manifest) -> set[tuple[str, str, str]]:
    changes = find_changes(reviewed(before), reviewed(after))
    return {(change.kind, change.subject, change.text) for change in changes}


def with_stage(**fields: object) -> Manifest:
    return manifest(stages=(replace(stage(), **fields),))  # type: ignore[arg-type]


def test_equal_manifests_have_no_changes() -> None:
    assert changes_of(manifest(), manifest()) == set()


def test_compatible_version_is_reported_as_moving_traffic() -> None:
    assert changes_of(manifest(), with_stage(serve={"iris": "v2"})) == {
        (TRAFFIC, "prod: iris", "v1 becomes v2"),
        (CONTRACT, "prod: iris", "v2 takes and returns what v1 does"),
    }


def test_version_with_other_tensors_breaks_callers_with_the_reason() -> None:
    allowed = replace(model().versions[1], breaking=True)
    models = (replace(model(), versions=(model().versions[0], allowed)),)
    tensors = {("iris", "v2"): WIDER}
    before = reviewed(manifest(models), tensors)
    after = reviewed(manifest(models, (stage(serve={"iris": "v2"}),)), tensors)
    (breaking,) = [change for change in find_changes(before, after) if change.kind == BREAKING]
    assert breaking.subject == "prod: iris"
    assert breaking.text.startswith("v2 cannot replace v1: ")
    assert "output `y` is missing" in breaking.text


def test_new_version_changes_nothing_for_callers_and_a_removed_one_removes_its_path() -> None:
    one, two = manifest((model(versions=("v1",)),)), manifest()
    assert {(kind, subject) for kind, subject, _ in changes_of(one, two)} == {(CONTRACT, "iris v2")}
    changes = changes_of(two, one)
    assert (BREAKING, "prod", "POST /models/iris/v2/inference no longer exist") in changes
    assert (COST, "a million calls of iris v2", "removed, $4.27 deployed") in changes


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"auth": "iam"}, (BREAKING, "prod", "`auth` changes from none to iam")),
        ({"version_override": True}, {}, (BREAKING, "prod", "callers may no longer choose the version")),
        (
            {"throttle": Throttle(100, 200)},
            {"throttle": Throttle(10, 20)},
            (TRAFFIC, "prod", "the throttle changes from 100/s, burst 200 to 10/s, burst 20"),
        ),
        (
            {},
            {"canary": Canary(10, {"iris": "v2"})},
            (TRAFFIC, "prod", "the canary changes from none to 10% to iris v2"),
        ),
        (
            {},
            {"serve": {}, "weights": {"iris": {"v1": 90.0, "v2": 10.0}}},
            (TRAFFIC, "prod: iris", "v1 becomes v1 90%, v2 10%"),
        ),
    ],
    ids=["auth", "version_override", "throttle", "canary", "weights"],
)
def test_changes_of_a_stage_are_described(
    before: dict[str, object], after: dict[str, object], expected: tuple[str, str, str]
) -> None:
    assert expected in changes_of(with_stage(**before), with_stage(**after))


def test_added_and_removed_stages_are_reported() -> None:
    both = manifest(stages=(stage(), stage("dev")))
    assert (BREAKING, "dev", "the stage is removed") in changes_of(both, manifest())
    assert (CONTRACT, "dev", "a new stage") in changes_of(manifest(), both)


def test_another_api_means_another_address_unless_there_is_a_domain() -> None:
    text = "moves to another API: its address at execute-api changes, one at a domain stays"
    assert (BREAKING, "prod", text) in changes_of(manifest(), with_stage(auth="api_key"))
    moved = replace(with_stage(auth="api_key"), domain=Domain("a.example.com"))
    assert (BREAKING, "prod", text) in changes_of(replace(manifest(), domain=Domain("a.example.com")), moved)
    within = Domain("a.example.com", base_path="team")
    gap = text.replace(
        "one at a domain stays", "team/prod at a.example.com is missing for some seconds (see `base_path`)"
    )
    assert (BREAKING, "prod", gap) in changes_of(replace(manifest(), domain=within), replace(moved, domain=within))
    here, there = (replace(manifest(), domain=Domain(name)) for name in ("a.example.com", "b.example.com"))
    assert (BREAKING, "domain", "every address changes") in changes_of(here, there)
    assert (BREAKING, "domain", "is removed") in changes_of(here, manifest())
    assert (CONTRACT, "domain", "every stage is also available at a.example.com") in changes_of(manifest(), here)


def test_memory_and_warmth_change_cold_starts_and_cost() -> None:
    first = replace(model().versions[0], memory_mb=2048, warm=Warm(provisioned=1))
    after = manifest((replace(model(), versions=(first, model().versions[1])),))
    changes = changes_of(manifest(), after)
    assert (COLD_START, "iris v1", "memory changes from 1,024 MB to 2,048 MB") in changes
    assert (COLD_START, "iris v1", "`provisioned` changes from 0 to 1") in changes
    assert (COST, "a month without calls", "$21.92, $17.52 more") in changes


def test_quota_that_is_nearly_full_is_named() -> None:
    many = [f"model-{letter}{other}" for letter in "abcdefgh" for other in "abcdefgh"]
    of = manifest(tuple(model(name, ("v1",)) for name in many), (stage(serve=dict.fromkeys(many, "v1")),))
    kinds = {kind for kind, _, _ in changes_of(manifest(), replace(of, routes="direct"))}
    assert QUOTA in kinds


def test_changed_file_of_a_version_is_breaking() -> None:
    before, after = reviewed(manifest()), reviewed(manifest())
    versions = tuple(replace(served, sha256="0" * 64) for served in after.plan.versions)
    changes = find_changes(before, replace(after, plan=replace(after.plan, versions=versions)))
    assert {change.kind for change in changes} == {BREAKING}
    assert "changes under the same name" in changes[0].text


def test_report_counts_sorts_and_escapes() -> None:
    changes = (
        Change(BREAKING, "prod", "`auth` changes from none to iam"),
        Change(COST, "a month", "<img src=x> @everyone [a](b)"),
    )
    text = render_text(changes, "main")
    assert text.splitlines()[0] == "2 changes compared with main, 1 of them breaking for callers."
    assert text.index("Breaking for callers") < text.index("Cost on AWS")
    page = render_markdown(changes, "main")
    assert page.startswith("<!-- turnout plan -->\n")
    assert "- **prod**: `auth` changes from none to iam" in page
    assert "<img" not in page.replace("\\<img", "")
    assert "@everyone" not in page
    assert render_text((), "main") == "Nothing changes compared with main."


def test_unknown_tensors_are_not_called_compatible() -> None:
    before = reviewed(manifest(), {("iris", "v1"): Signature((), ())})
    after = reviewed(with_stage(serve={"iris": "v2"}), {("iris", "v2"): signature()})
    texts = [change.text for change in find_changes(before, after)]
    assert "v2 instead of v1: the tensors are not known here" in texts
