"""Notes: every key that is accepted and whose behaviour is not here yet, by its path, so that none is silently ignored.

Comes in: a manifest. Goes out: paths and sentences in the file's order. Called by the plan; `turnout plan` and `serve`
print them. A key whose behaviour arrives loses its line here.
"""

from __future__ import annotations

from collections.abc import Iterator

from turnout.auth import AUTH_TYPES
from turnout.manifest import Manifest, Model, Stage, Version


def find_later_keys(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(path, what happens until then) of each key that the manifest holds and nothing obeys yet."""
    for model in manifest.models:
        yield from _of_model(model)
    for stage in manifest.stages:
        yield from _of_stage(stage)


def _of_model(model: Model) -> Iterator[tuple[str, str]]:
    for version in model.versions:
        yield from _of_version(version, f"models.{model.name}.versions.{version.name}")


def _of_version(version: Version, path: str) -> Iterator[tuple[str, str]]:
    if version.is_remote:
        yield f"{path}.artifact", "artifacts in S3 are not read yet: the version has a route, and calls of it fail"
    if version.warm.provisioned:
        yield f"{path}.warm.provisioned", "provisioned concurrency comes with the deployment to AWS"
    if version.warm.snap_start:
        yield f"{path}.warm.snap_start", "SnapStart comes with the deployment to AWS"
    if version.reserved_concurrency is not None:
        yield f"{path}.reserved_concurrency", "reserved concurrency is kept on AWS and by `turnout serve --isolated`"


def _of_stage(stage: Stage) -> Iterator[tuple[str, str]]:
    path = f"stages.{stage.name}"
    if stage.canary and stage.canary.release:
        yield (
            f"{path}.canary.release",
            "release canaries come with the deployment to AWS: here both shares run the same code",
        )
    auth = AUTH_TYPES.get(stage.auth)
    if auth is not None and not auth.local:
        yield f"{path}.auth", f"`{auth.name}` is checked on AWS only: `turnout serve` refuses every call of this stage"
