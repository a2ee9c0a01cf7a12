"""Reads artifacts in S3 once for their inputs and outputs: `artifact: s3://bucket/key`.

A file is kept below `.turnout/artifacts/` by its digest, and never fetched again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from turnout.artifacts.artifact import Artifact, ArtifactError, unremarked
from turnout.aws_client import check_boto3, make_aws_client
from turnout.extras import MissingPackageError
from turnout.manifest.parser import Version
from turnout.problems import ProblemsError
from turnout.project.project import CACHE_DIR, Project
from turnout.runtimes.registry import RUNTIMES
from turnout.runtimes.runtime import VersionFiles
from turnout.system.files import file_digest

Download = Callable[[str, str, Path], None]
"""Downloads the object `(bucket, key)` into a file; an OSError contains the reason of a failure."""


def download_object(bucket: str, key: str, target: Path) -> None:
    """Download with boto3's credentials and region, in parallel parts."""
    try:
        check_boto3(f"s3://{bucket}/{key}")
    except MissingPackageError as error:
        raise ArtifactError(str(error), error.hint) from None
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        make_aws_client("s3").download_file(bucket, key, str(target))
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


def fetch_remote(project: Project, download: Download = download_object) -> Project:
    """Return the project with an artifact for each version in S3, too.

    Raises:
        ProblemsError: some cannot be fetched, differ from their `sha256`, or are no models.
    """
    cache = project.manifest.path.parent / CACHE_DIR
    artifacts = dict(project.artifacts)
    problems = []
    for version in (version for model in project.manifest.models for version in model.versions if version.is_remote):
        try:
            artifacts[version.model, version.name] = _fetch(version, cache, download)
        except (ArtifactError, OSError) as error:
            path = ("models", version.model, "versions", version.name, "artifact")
            hint = error.hint if isinstance(error, ArtifactError) else ""
            problems.append(project.manifest.problem(path, str(error), hint))
    if problems:
        raise ProblemsError(tuple(problems))
    return replace(project, artifacts=artifacts)


def _fetch(version: Version, cache: Path, download: Download) -> Artifact:
    parts = urlsplit(version.artifact)
    target = cache / "artifacts" / version.sha256 / PurePosixPath(parts.path).name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            unchecked = Path(scratch) / "model"
            try:
                download(parts.netloc, parts.path.lstrip("/"), unchecked)
            except OSError as error:
                raise OSError(f"{version.artifact} cannot be read: {error}") from error
            digest = file_digest(unchecked)
            if digest != version.sha256:
                raise ArtifactError(
                    f"{version.artifact} does not match `sha256`: its sha256 is {digest}",
                    "Versions are immutable: upload the changed model under another key and add it as a new version.",
                )
            unchecked.rename(target)
    return RUNTIMES[version.runtime].inspect(VersionFiles(target), cache, reading=unremarked)
