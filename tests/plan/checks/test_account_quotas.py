"""Quotas of the account: code storage, concurrency, memory; and remedies that no other rule rejects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.manifests import artifact, artifacts_of, manifest, model, stage
from turnout.artifacts.artifact import Artifact
from turnout.manifest.parser import AccountQuotas, Manifest, Model, Version, Warm, parse_manifest
from turnout.plan.checks.quotas import GB, KEPT_VERSIONS, MB, Count, count_quotas
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.problems import Problem, ProblemsError

S3 = "s3://bucket/model.onnx"


def versions(count: int, **fields: Any) -> Manifest:
    rows = tuple(Version("iris", f"v{number}", "a.onnx", **fields) for number in range(1, count + 1))
    return manifest((Model("iris", rows),), (stage(serve={"iris": "v1"}),))


def sized(of: Manifest, size_bytes: int) -> dict[tuple[str, str], Artifact]:
    return {key: replace(entry, size_bytes=size_bytes) for key, entry in artifacts_of(of).items()}


def problems_of(of: Manifest, artifacts: Mapping[tuple[str, str], Artifact] | None = None) -> tuple[Problem, ...]:
    try:
        make_plan(of, artifacts_of(of) if artifacts is None else artifacts)
    except ProblemsError as error:
        return error.problems
    return ()


def quota(plan: Plan, name: str) -> Any:
    (result,) = [entry for entry in plan.quotas if entry.name == name]
    return result


def test_code_storage_counts_every_zip_as_often_as_it_exists_during_an_update() -> None:
    of = versions(2)
    used = quota(make_plan(of, sized(of, 10 * MB)), "code storage, estimated")
    code, layer = 300_000, 68_000_000
    assert used.used == (2 * (10 * MB + code) + code + layer) * (KEPT_VERSIONS + 2)
    assert used.allowed == 75 * GB


def test_an_update_over_the_code_storage_is_an_error_with_its_line_and_remedy() -> None:
    of = replace(versions(150), quotas=AccountQuotas(resources=1000))
    (problem,) = problems_of(of, sized(of, 150 * MB))
    assert "code storage, estimated: 88." in problem.message
    assert problem.path == ("models",)
    assert "`quotas: {code_storage_gb: 89}`" in problem.hint
    raised = replace(of, quotas=AccountQuotas(1000, code_storage_gb=300))
    assert problems_of(raised, sized(of, 150 * MB)) == ()


def test_models_in_s3_use_no_code_storage() -> None:
    of = replace(versions(150, sha256="a" * 64), quotas=AccountQuotas(resources=1000))
    remote = replace(of, models=(replace(of.models[0], versions=tuple(
        replace(version, artifact=S3, ephemeral_storage_mb=1024) for version in of.models[0].versions)),))  # fmt: skip
    assert problems_of(remote, sized(remote, 900 * MB)) == ()


@pytest.mark.parametrize(
    ("concurrency", "reserved", "noted", "refused"),
    [
        (None, 450, False, False),
        (None, 451, True, False),
        (1000, 450, False, False),
        (1000, 451, False, True),
        (10, 1, False, True),
        (2000, 950, False, False),
    ],
)
def test_sum_of_reserved_concurrency_is_checked_against_the_account(
    concurrency: int | None, reserved: int, noted: bool, refused: bool
) -> None:
    of = replace(versions(2, reserved_concurrency=reserved), quotas=AccountQuotas(concurrency=concurrency))
    problems = problems_of(of)
    assert bool(problems) == refused
    if refused:
        (problem,) = problems
        assert problem.path == ("models", "iris", "versions", "v1", "reserved_concurrency")
        assert f"{2 * reserved:,} used" in problem.message
        assert f"`quotas: {{concurrency: {2 * reserved + 100}}}`" in problem.hint
        return
    plan = make_plan(of, artifacts_of(of))
    assert quota(plan, "reserved concurrency, sum").used == 2 * reserved
    assert any("reserved concurrency, sum" in note.message for note in plan.notes) == noted


@pytest.mark.parametrize(
    ("fields", "used", "key"),
    [
        ({"warm": Warm(provisioned=451)}, 902, ("warm", "provisioned")),
        ({"warm": Warm(provisioned=10), "reserved_concurrency": 451}, 902, ("reserved_concurrency",)),
    ],
)
def test_provisioned_concurrency_counts_unless_it_is_part_of_a_reservation(
    fields: dict[str, Any], used: int, key: tuple[str, ...]
) -> None:
    of = replace(versions(2, **fields), quotas=AccountQuotas(concurrency=1000))
    (problem,) = problems_of(of)
    assert problem.path == ("models", "iris", "versions", "v1", *key)
    assert f"reserved concurrency, sum: {used} used, 900 allowed" in problem.message
    assert problems_of(replace(of, quotas=AccountQuotas(concurrency=used + 100))) == ()


def test_concurrency_is_not_reported_if_no_version_reserves_any() -> None:
    plan = make_plan(versions(2), artifacts_of(versions(2)))
    assert not [quota for quota in plan.quotas if quota.name == "reserved concurrency, sum"]


@pytest.mark.parametrize(("memory_mb", "noted"), [(3008, False), (3009, True), (10240, True)])
def test_memory_that_new_accounts_lack_is_noted_once(memory_mb: int, noted: bool) -> None:
    of = versions(3, memory_mb=memory_mb)
    notes = [note for note in make_plan(of, artifacts_of(of)).notes if "memory" in note.message]
    assert len(notes) == noted
    assert all("3,008 MB allowed" in note.message and note.path.endswith("memory_mb") for note in notes)


def test_memory_over_the_configured_quota_is_an_error_of_each_version() -> None:
    of = replace(versions(2, memory_mb=4096), quotas=AccountQuotas(memory_mb=3008))
    assert [problem.path[3] for problem in problems_of(of)] == ["v1", "v2"]
    assert problems_of(replace(of, quotas=AccountQuotas(memory_mb=4096))) == ()


def test_raised_quotas_apply() -> None:
    rows = tuple(model(f"m{number}", ("v1", "v2")) for number in range(60))
    of = manifest(rows, (stage(serve={entry.name: "v1" for entry in rows}),), routes="direct")
    (problem,) = problems_of(of)
    assert problem.path == ("models",)
    assert "372 used, 300 allowed" in problem.message
    assert problems_of(replace(of, quotas=AccountQuotas(resources=372))) == ()
    stages = tuple(stage(f"s{number}") for number in range(11))
    (problem,) = problems_of(manifest(stages=stages))
    assert problem.path == ("stages",)
    assert problems_of(replace(manifest(stages=stages), quotas=AccountQuotas(stages=11))) == ()


# Every quota is exceeded once, and its remedy is followed: no rule rejects the result, and the quota is met.


def many(models: int, extra: str = "", **version: Any) -> dict[str, Any]:
    fields = {"artifact": "a.onnx", **version}
    names = [f"m{number}" for number in range(models)]
    tree: dict[str, Any] = {"models": {name: {"versions": {"v1": dict(fields)}} for name in names}, "stages": {"prod": {
        "serve": {"*": "newest"}}}}  # fmt: skip
    return tree | (yaml.safe_load(extra) if extra else {})


def stages_of(count: int) -> dict[str, Any]:
    return many(1) | {"stages": {f"s{number}": {"serve": {"*": "newest"}} for number in range(count)}}


EXCEEDED: Mapping[str, tuple[dict[str, Any], int]] = {
    "resources": (many(120, "{open_inference: direct, routes: direct}"), 1000),
    "stages": (stages_of(11), 1000),
    "code storage, estimated": (many(130), 170 * MB),
    "reserved concurrency, sum": (many(2, "quotas: {concurrency: 200}", reserved_concurrency=100), 1000),
    "memory, new account": (many(1, memory_mb=4096), 1000),
    "memory": (many(1, "quotas: {memory_mb: 3008}", memory_mb=4096), 1000),
    "model fetched to /tmp": (many(1), 600 * MB),
    "model fetched to /tmp, with SnapStart": (many(1, warm={"snap_start": True}), 600 * MB),
    "model fetched to /tmp, over the largest": (many(1), 11_000 * MB),
    "timeout": (many(1, timeout_s=30), 1000),
    "environment": (many(1, environment={"A_B": "x" * 5000}), 1000),
    "package sent directly": (many(1), 60 * MB),
}
"""Quota -> a manifest that exceeds it, and the artifacts' size."""

DELETED = re.compile(r"[Dd]elete `(\w+)`")
SET = re.compile(r"[Ss]et `(\w+)` to (\d+)")
WRITTEN = re.compile(r"`(\w+: [^`]+)`")


def counts_of(tree: Mapping[str, Any], size_bytes: int) -> list[Count]:
    of = parse_manifest(yaml.safe_dump(dict(tree)).encode(), path=Path("models.yaml"), source="models.yaml")
    plan = make_plan(of, sized(of, size_bytes), enforce=False)
    return list(count_quotas(plan, of.quotas))


def follow(tree: Mapping[str, Any], count: Count) -> list[dict[str, Any]]:
    """Yield the manifests that result from a remedy: each alternative that it names, applied at its place."""
    results = []

    def edited(edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
        copied = yaml.safe_load(yaml.safe_dump(dict(tree)))
        holder = copied
        for key in count.path[:4]:
            holder = holder.get(key, {}) if isinstance(holder, dict) else {}
        edit(copied, holder)
        results.append(copied)

    for text in WRITTEN.findall(count.remedy):
        edited(lambda whole, _, text=text: whole.update(yaml.safe_load(text)))  # type: ignore[misc]
    for key, number in SET.findall(count.remedy):

        def put(_: dict[str, Any], holder: dict[str, Any], key: str = key, number: str = number) -> None:
            for name in DELETED.findall(count.remedy):
                holder.pop(name, None)
                if holder.get("warm", {}).pop(name, None) is not None and not holder["warm"]:
                    del holder["warm"]
            holder[key] = int(number)

        edited(put)
    return results


@pytest.mark.parametrize("name", EXCEEDED)
def test_no_remedy_recommends_what_another_rule_rejects(name: str) -> None:
    tree, size_bytes = EXCEEDED[name]
    quota_name = name.split(", with", maxsplit=1)[0].split(", over", maxsplit=1)[0]
    exceeded = [
        entry for entry in counts_of(tree, size_bytes) if entry.quota.name == quota_name and entry.quota.exceeded
    ]
    assert exceeded, name
    for count in exceeded:
        assert count.remedy
        for changed in follow(tree, count):
            after = counts_of(changed, size_bytes)  # raises if the manifest's own rules reject it
            if "open_inference" in changed and changed["open_inference"] == "proxy":
                continue  # fewer, and possibly still too many
            assert not [
                entry
                for entry in after
                if entry.quota.subject == count.quota.subject and entry.quota.name == quota_name
                and entry.quota.exceeded
            ], changed  # fmt: skip


def test_each_remedy_with_a_number_was_followed() -> None:
    followed = {
        name: sum(
            len(follow(tree, entry))
            for entry in counts_of(tree, size)
            if entry.quota.exceeded and entry.quota.name == name.split(", with")[0]
        )
        for name, (tree, size) in EXCEEDED.items()
    }  # fmt: skip
    assert followed["resources"] == 3
    assert followed["model fetched to /tmp, with SnapStart"] == 1
    assert all(followed[name] for name in ("stages", "code storage, estimated", "reserved concurrency, sum", "memory"))


def test_snap_start_is_never_advised_to_use_more_disk() -> None:
    of = manifest((Model("iris", (Version("iris", "v1", S3, "a" * 64, warm=Warm(snap_start=True)),)),))
    (problem,) = problems_of(of, {("iris", "v1"): artifact("a", size_bytes=600 * MB)})
    assert "Delete `snap_start` and set `ephemeral_storage_mb` to 600 or more" in problem.hint


def test_model_larger_than_any_tmp_is_not_advised_to_set_an_invalid_value() -> None:
    of = manifest((Model("iris", (Version("iris", "v1", S3, "a" * 64),)),))
    (problem,) = problems_of(of, {("iris", "v1"): artifact("a", size_bytes=11_000 * MB)})
    assert "at most 10,240 MB" in problem.hint
    assert "Set" not in problem.hint
