"""No key is silently ignored: a key without an effect yet is a note with its path."""

from __future__ import annotations

import pytest

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest.judgement import Agreement, Judgement
from turnout.manifest.parser import Asynchronous, Canary, Capture, Manifest, Model, Routing, Slo, Sticky, Version, Warm
from turnout.plan.planner import make_plan


def paths_of(of: Manifest) -> list[str]:
    return [note.path for note in make_plan(of, artifacts_of(of)).notes]


def with_version(**fields: object) -> Manifest:
    artifact = str(fields.pop("artifact", "a.onnx"))
    return manifest((Model("iris", (Version("iris", "v1", artifact, **fields),)),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "path"),
    [
        (with_version(warm=Warm(provisioned=2)), "models.iris.versions.v1.warm.provisioned"),
        (with_version(warm=Warm(snap_start=True)), "models.iris.versions.v1.warm.snap_start"),
        (with_version(reserved_concurrency=0), "models.iris.versions.v1.reserved_concurrency"),
        (with_version(artifact="s3://bucket/key", sha256="a" * 64), "models.iris.versions.v1.artifact"),
        (with_version(environment={"VOCABULARY": "large"}), "models.iris.versions.v1.environment"),
        (with_version(ephemeral_storage_mb=1024), "models.iris.versions.v1.ephemeral_storage_mb"),
        (with_version(tracing=True), "models.iris.versions.v1.tracing"),
        (with_version(slo=Slo(p99_ms=100)), "models.iris.versions.v1.slo"),
        (with_version(capture=Capture(1)), "models.iris.versions.v1.capture"),
        (manifest(stages=(stage(slo=Slo(error_percent=1)),)), "stages.prod.slo"),
        (manifest(stages=(stage(version_override=True),)), "stages.prod.version_override"),
        (manifest((model(routing=Routing(Sticky("api_key"))),)), "models.iris.routing.sticky"),
        (with_version(timeout_s=30), "models.iris.versions.v1.timeout_s"),
        (manifest(stages=(stage(canary=Canary(10, {}, release=True)),)), "stages.prod.canary.release"),
    ],
)
def test_key_without_a_local_effect_is_noted(of: Manifest, path: str) -> None:
    assert paths_of(of) == [path]


@pytest.mark.parametrize(
    "of",
    [
        manifest(),
        manifest(stages=(stage(auth="iam"),)),
        manifest((model(routing=Routing(Sticky("header", "x-user"), "v2", 5, "v1")),)),
        manifest((model(routing=Routing(Sticky("api_key"))),), (stage(auth="api_key"),)),
        manifest(stages=(stage(serve={}, weights={"iris": {"v1": 90, "v2": 10}}, version_override=True),)),
        manifest(stages=(stage(serve={}, weights={"iris": {"v1": 90, "v2": 10}}),)),
        manifest(stages=(stage(auth="api_key", canary=Canary(10, {"iris": "v2"})),)),
        manifest(stages=(stage(asynchronous=Asynchronous()),)),
        with_version(timeout_s=29, memory_mb=128, transform="t.py", examples="e.json", sha256="a" * 64),
    ],
)
def test_key_with_an_effect_is_not_noted(of: Manifest) -> None:
    assert paths_of(of) == []


@pytest.mark.parametrize(("capture", "notes"), [(None, ["stages.prod.canary"]), (Capture(5), [])])
def test_agreement_that_cannot_be_measured_on_aws_is_noted(capture: Capture | None, notes: list[str]) -> None:
    versions = tuple(Version("iris", name, "a.onnx", capture=capture) for name in ("v1", "v2"))
    canary = Canary(10, {"iris": "v2"}, judgement=Judgement(agreement=Agreement(5, 0.98)))
    of = manifest((Model("iris", versions),), (stage(canary=canary),))
    results = [note for note in make_plan(of, artifacts_of(of)).notes if note.path.startswith("stages.")]
    assert [note.path for note in results] == notes
    assert all("set `capture: {percent: 5}` at models.iris.versions.v1" in note.message for note in results)
