"""Models that do not lie in their zip: where their functions find them, and what they may read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan

from .naming import Place

LOCATION = "TURNOUT_MODEL"
"""The variable by which a function knows where its model is (model_lambdas/function/stored_model.py)."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version's model in S3.

    Args:
        package: of the function that fetches it.
        bucket: the stack's own, or the one that the manifest names.
        folder: within the bucket, without slashes at its ends; may be empty.
        files: below the folder.
        kms_key_arn: of the key that the bucket is encrypted with, or empty.
    """

    package: str
    bucket: str
    folder: str
    files: tuple[StoredFile, ...]
    kms_key_arn: str = ""

    @property
    def location(self) -> str:
        """`s3://bucket/folder`."""
        return f"s3://{self.bucket}/{self.folder}".rstrip("/")

    def arns(self, partition: str) -> list[str]:
        """Of every file."""
        return [f"arn:{partition}:s3:::{self.location.removeprefix('s3://')}/{file.name}" for file in self.files]

    def folder_arn(self, partition: str) -> str:
        """Of everything in the folder, as a pattern."""
        return f"arn:{partition}:s3:::{self.location.removeprefix('s3://')}/*"


def find_stored(
    plan: Plan, built: Sequence[BuiltPackage], place: Place, kms_key_arn: str = ""
) -> Iterator[StoredModel]:
    """Every model that its function fetches: where the manifest says, or in the stack's own bucket by its digest.

    Args:
        plan: what is deployed.
        built: the packages.
        place: names the stack's bucket.
        kms_key_arn: of the key that the stack's bucket is encrypted with, or empty.
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
