"""Packages on their way to Lambda: sent with the function, or through S3 where they are too large for that.

Comes in: the built zips, and the models that do not lie in them. Goes out: what a function's `code` and `layers` are,
and where it finds its model. Called by the program.
An object is named by its contents' digest, so an unchanged one is not sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import pulumi
import pulumi_aws as aws

from turnout.packaging.build import LAMBDA_PYTHON, BuiltPackage
from turnout.plan.checks.quotas import DIRECT_ZIP_BYTES

from .naming import Place
from .stored_models import StoredModel

RUNTIME = f"python{LAMBDA_PYTHON}"


class Code(TypedDict, total=False):
    """The arguments that say where a function's or a layer's zip is."""

    code: pulumi.Archive
    s3_bucket: pulumi.Input[str]
    s3_key: pulumi.Input[str]


@dataclass(frozen=True, slots=True)
class PackagesArgs:
    """The zips of a stack.

    Args:
        place: names the bucket.
        built: functions' and layers'.
        stored: the models that functions fetch; those in other buckets are there already.
    """

    place: Place
    built: Sequence[BuiltPackage]
    stored: Sequence[StoredModel] = ()


class Packages(pulumi.ComponentResource):
    """The layers, and the bucket with what cannot be sent directly; no bucket where everything can."""

    def __init__(self, name: str, args: PackagesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:Packages", name, None, opts)
        self._within = pulumi.ResourceOptions(parent=self)
        self._built = {package.name: package for package in args.built}
        sent = [model for model in args.stored if model.bucket == args.place.bucket]
        self._bucket = self._make_bucket(args.place) if sent or any(map(is_large, args.built)) else None
        self._code = {package.name: self._send(package) for package in args.built}
        if self._bucket is not None:
            for model in sent:
                self._send_model(model, self._bucket)
        self._layers = {
            package.name: self._make_layer(args.place, package) for package in args.built if package.kind == "layer"
        }
        self.register_outputs({})

    def code_of(self, package: str) -> Code:
        """Where the zip of a function is."""
        return self._code[package]

    def layers_of(self, package: str) -> list[pulumi.Input[str]]:
        """ARNs of the layers that a function's zip needs: one, or none."""
        layer = self._built[package].layer
        return [self._layers[layer]] if layer else []

    def _make_bucket(self, place: Place) -> aws.s3.Bucket:
        # Everything in it can be built again, so it goes with what is in it.
        bucket = aws.s3.Bucket("packages", bucket=place.bucket, force_destroy=True, opts=self._within)
        aws.s3.BucketPublicAccessBlock(
            "packages",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._within,
        )
        return bucket

    def _send(self, package: BuiltPackage) -> Code:
        if self._bucket is None or not is_large(package):
            return {"code": pulumi.FileArchive(str(package.path))}
        sent = aws.s3.BucketObjectv2(
            package.name,
            bucket=self._bucket.id,
            key=f"packages/{package.name}-{package.digest}.zip",
            source=pulumi.FileAsset(str(package.path)),
            opts=self._within,
        )
        return {"s3_bucket": sent.bucket, "s3_key": sent.key}

    def _send_model(self, model: StoredModel, bucket: aws.s3.Bucket) -> None:
        for file in model.files:
            aws.s3.BucketObjectv2(
                f"{model.package}/{file.name}",
                bucket=bucket.id,
                key=f"{model.folder}/{file.name}",
                source=pulumi.FileAsset(str(file.path)),
                opts=self._within,
            )

    def _make_layer(self, place: Place, package: BuiltPackage) -> pulumi.Output[str]:
        layer = aws.lambda_.LayerVersion(
            package.name,
            layer_name=place.name(package.name.replace(".", "-")),
            compatible_runtimes=[RUNTIME],
            opts=self._within,
            **self._code[package.name],
        )
        return layer.arn


def is_large(package: BuiltPackage) -> bool:
    """Whether Lambda takes the zip through S3 only."""
    return package.zip_bytes > DIRECT_ZIP_BYTES
