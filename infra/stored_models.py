"""Models that are not in their function's zip: where the functions find them, and which objects they may read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan

from .naming import Place

LOCATION = "TURNOUT_MODEL"
"""The environment variable with the location of a function's model (model_lambdas/function/stored_model.py)."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version's model in S3.

    Args:
        package: name of the function that fetches it.
        bucket: the stack's own bucket, or the one in the manifest.
        folder: folder in the bucket, without leading and trailing slashes; may be empty.
        files: paths below the folder.
        kms_key_arn: the key that encrypts the bucket, or empty.
    """

    package: str
    bucket: str
    folder: str
    files: tuple[StoredFile, ...]
    kms_key_arn: str = ""

    @property
    def location(self) -> str:
        """The folder's URL, `s3://bucket/folder`."""
        return f"s3://{self.bucket}/{self.folder}".rstrip("/")

    def arns(self, partition: str) -> list[str]:
        """ARNs of all files."""
        return [f"arn:{partition}:s3:::{self.location.removeprefix('s3://')}/{file.name}" for file in self.files]

    def folder_arn(self, partition: str) -> str:
        """ARN pattern of everything in the folder."""
        return f"arn:{partition}:s3:::{self.location.removeprefix('s3://')}/*"


def find_stored(
    plan: Plan, built: Sequence[BuiltPackage], place: Place, kms_key_arn: str = ""
) -> Iterator[StoredModel]:
    """Return the models that functions fetch: at the location in the manifest, or by digest in the stack's own bucket.

    Args:
        plan: the plan that is deployed.
        built: the packages.
        place: contains the name of the stack's bucket.
        kms_key_arn: the key that encrypts the stack's bucket, or empty.
    """
    served = {(version.version.model, version.version.name): version for version in plan.versions}
    packages = {package.name: package for package in built}
    for function in plan.functions:
        files = packages[function.package].stored
        if not files:
            continue
        version = served[function.model, function.version]
        if version.version.is_remote:
            parts = urlsplit(version.version.artifact)
            folder = parts.path.rpartition("/")[0].lstrip("/")
            yield StoredModel(function.package, parts.netloc, folder, files, version.version.kms_key_arn)
        else:
            yield StoredModel(function.package, place.bucket, f"models/{version.sha256}", files, kms_key_arn)
