"""Models that are not in their function's zip: where the functions find them, and which objects they may read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan

from .naming import Place

LOCATION = "TURNOUT_MODEL"
"""The environment variable with the location of a function's model (model_lambdas/function/stored_model.py)."""

POOLED = "pooled"
"""The folder of the stack's bucket with the models of pools, each in a folder named by its digest. It differs from the
folder of models that belong to one function: those are deleted with their function, and the same model may be in both.
"""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version's model in S3.

    Args:
        package: name of the function that fetches it.
        name: prefix of its resources: the package, or the folder if several versions may have the same model.
        bucket: the stack's own bucket, or the one in the manifest.
        folder: folder in the bucket, without leading and trailing slashes; may be empty.
        files: paths below the folder.
        kms_key_arn: the key that encrypts the bucket, or empty.
        is_pooled: whether a pool fetches it.
    """

    package: str
    name: str
    bucket: str
    folder: str
    files: tuple[StoredFile, ...]
    kms_key_arn: str = ""
    is_pooled: bool = False

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
    yield from _find_pooled(plan, packages, place, kms_key_arn)
    for function in plan.functions:
        files = packages[function.package].stored
        if not files:
            continue
        version = served[function.model, function.version]
        if version.version.is_remote:
            bucket, folder = _split(version.version.artifact)
            key = version.version.kms_key_arn
            yield StoredModel(function.package, function.package, bucket, folder, files, key)
        else:
            folder = f"models/{version.sha256}"
            yield StoredModel(function.package, function.package, place.bucket, folder, files, kms_key_arn)


def _find_pooled(
    plan: Plan, packages: Mapping[str, BuiltPackage], place: Place, kms_key_arn: str
) -> Iterator[StoredModel]:
    """Yield every model of a pool once: equal models of several versions are one object."""
    functions = {function.name: function for function in plan.functions}
    digests = {(served.version.model, served.version.name): served for served in plan.versions}
    sent: set[str] = set()
    for pool in plan.pools:
        package = functions[pool.function].package
        for key, files in packages[package].pooled.items():
            served = digests[key]
            if served.version.is_remote:
                bucket, folder = _split(served.version.artifact)
                yield StoredModel(package, "", bucket, folder, files, served.version.kms_key_arn, is_pooled=True)
            elif served.sha256 not in sent:
                sent.add(served.sha256)
                folder = f"{POOLED}/{served.sha256}"
                yield StoredModel(package, folder, place.bucket, folder, files, kms_key_arn, is_pooled=True)


def pools_location(place: Place) -> str:
    """Return the place of pools' models in the stack's own bucket."""
    return f"s3://{place.bucket}/{POOLED}"


def _split(artifact: str) -> tuple[str, str]:
    """Return bucket and folder of `s3://bucket/folder/model.onnx`."""
    parts = urlsplit(artifact)
    return parts.netloc, parts.path.rpartition("/")[0].lstrip("/")
