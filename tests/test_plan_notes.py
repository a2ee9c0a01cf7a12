"""No key is silently ignored: what nothing obeys yet is a note with its path."""

from __future__ import annotations

import pytest

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest import Canary, Manifest, Model, Routing, Sticky, Version, Warm
from turnout.planning import make_plan


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
        (with_version(timeout_s=30), "models.iris.versions.v1.timeout_s"),
        (manifest(stages=(stage(canary=Canary(10, {}, release=True)),)), "stages.prod.canary.release"),
        (manifest(stages=(stage(auth="iam"),)), "stages.prod.auth"),
    ],
)
def test_key_whose_behaviour_comes_later_is_noted(of: Manifest, path: str) -> None:
    assert paths_of(of) == [path]


@pytest.mark.parametrize(
    "of",
    [
        manifest(),
        manifest((model(routing=Routing(Sticky("header", "x-user"), "v2", 5, "v1")),)),
        manifest(stages=(stage(serve={}, weights={"iris": {"v1": 90, "v2": 10}}),)),
        manifest(stages=(stage(auth="api_key", canary=Canary(10, {"iris": "v2"})),)),
        with_version(timeout_s=29, memory_mb=128, transform="t.py", examples="e.json", sha256="a" * 64),
    ],
)
def test_key_that_is_obeyed_is_not_noted(of: Manifest) -> None:
    assert paths_of(of) == []
