"""Uploads packages to Lambda: directly with the function, or through S3 if they are too large for that.

An object is named by the digest of its content, so an unchanged one is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import pulumi
import pulumi_aws as aws

from turnout.packaging.build import LAMBDA_PYTHON, BuiltPackage
from turnout.plan.checks.quotas import DIRECT_ZIP_BYTES

from .account import DIGEST
from .naming import Place
from .stack.buckets import block_public_access, encrypt_bucket
from .stack.choice_tables import table_key
from .stored_models import StoredModel

RUNTIME = f"python{LAMBDA_PYTHON}"


class PackageCode(TypedDict, total=False):
    """The arguments with the location of a function's or a layer's zip."""

    code: pulumi.Archive
    s3_bucket: pulumi.Input[str]
    s3_key: pulumi.Input[str]


@dataclass(frozen=True, slots=True)
class PackagesArgs:
    """The zips of a stack.

    Args:
        place: contains the bucket's name.
        built: packages of functions and layers.
        stored: the models that functions fetch at start; those in other buckets are not uploaded.
        kept: layer versions of earlier deployments.
        kms_key_arn: the key that encrypts the bucket, or empty for S3's own key.
        tables: tables of choices, by name.
    """

    place: Place
    built: Sequence[BuiltPackage]
    stored: Sequence[StoredModel] = ()
    kept: Sequence[KeptLayer] = ()
    kms_key_arn: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """A layer version of an earlier deployment that is kept.

    Args:
        layer: its name on AWS.
        digest: digest of its zip.
    """

    layer: str
    digest: str


class Packages(pulumi.ComponentResource):
    """The layers, and the bucket with what functions read from S3; no bucket if there is nothing of that kind."""

    def __init__(self, name: str, args: PackagesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:Packages", name, None, opts)
        self._within = pulumi.ResourceOptions(parent=self)
        self._after_bucket: list[pulumi.Resource] = []
        self._built = {package.name: package for package in args.built}
        sent = [model for model in args.stored if model.bucket == args.place.bucket]
        self._bucket = self._make_bucket(args) if sent or args.tables or any(map(is_large, args.built)) else None
        self._code = {package.name: self._send(package) for package in args.built}
        if self._bucket is not None:
            for model in sent:
                self._send_model(model, self._bucket)
            for table, text in args.tables.items():
                self._send_table(table, text, self._bucket)
        self._layers = {
            package.name: self._make_layer(args.place, package) for package in args.built if package.kind == "layer"
        }
        for layer in args.kept:
            self._keep_layer(layer, args.place)
        self.register_outputs({})

    def code_of(self, package: str) -> PackageCode:
        """Return the location of a function's zip."""
        return self._code[package]

    def layers_of(self, package: str) -> list[pulumi.Input[str]]:
        """Return the ARNs of the layers that a function needs: one, or none."""
        layer = self._built[package].layer
        return [self._layers[layer]] if layer else []

    @property
    def _within_bucket(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=self._after_bucket)

    def _make_bucket(self, args: PackagesArgs) -> aws.s3.Bucket:
        # All content can be built again, so the bucket is deleted together with it.
        bucket = aws.s3.Bucket("packages", bucket=args.place.bucket, force_destroy=True, opts=self._within)
        block_public_access("packages", bucket, self._within)
        if args.kms_key_arn:
            encryption = encrypt_bucket("packages", bucket, args.kms_key_arn, self._within)
            # Objects that are sent earlier would be encrypted with another key.
            self._after_bucket = [encryption]
        return bucket

    def _send(self, package: BuiltPackage) -> PackageCode:
        if self._bucket is None or not is_large(package):
            return {"code": pulumi.FileArchive(str(package.path))}
        sent = aws.s3.BucketObjectv2(
            package.name,
            bucket=self._bucket.id,
            key=f"packages/{package.name}-{package.digest}.zip",
            source=pulumi.FileAsset(str(package.path)),
            opts=self._within_bucket,
        )
        return {"s3_bucket": sent.bucket, "s3_key": sent.key}

    def _send_model(self, model: StoredModel, bucket: aws.s3.Bucket) -> None:
        for file in model.files:
            aws.s3.BucketObjectv2(
                f"{model.name}/{file.name}",
                bucket=bucket.id,
                key=f"{model.folder}/{file.name}",
                source=pulumi.FileAsset(str(file.path)),
                opts=self._within_bucket,
            )

    def _send_table(self, name: str, text: str, bucket: aws.s3.Bucket) -> None:
        key = table_key(name)
        aws.s3.BucketObjectv2(
            key.removesuffix(".json"),
            bucket=bucket.id,
            key=key,
            content=text,
            content_type="application/json",
            # Requests that arrived earlier still need a replaced table; `Account.prune_tables` deletes it later.
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._after_bucket, retain_on_delete=True),
        )

    def _make_layer(self, place: Place, package: BuiltPackage) -> pulumi.Output[str]:
        name = layer_name(place, package.name)
        layer = aws.lambda_.LayerVersion(
            _resource_name(place, name, package.digest),
            layer_name=name,
            description=f"{DIGEST}{package.digest}",
            compatible_runtimes=[RUNTIME],
            opts=self._within,
            **self._code[package.name],
        )
        return layer.arn

    def _keep_layer(self, kept: KeptLayer, place: Place) -> None:
        """Declare an existing layer version so that Pulumi does not delete it. Its properties cannot change."""
        code = next(self._code[package.name] for package in self._built.values() if package.kind == "layer")
        aws.lambda_.LayerVersion(
            _resource_name(place, kept.layer, kept.digest),
            layer_name=kept.layer,
            description=f"{DIGEST}{kept.digest}",
            opts=pulumi.ResourceOptions(
                parent=self, ignore_changes=["code", "s3Bucket", "s3Key", "compatibleRuntimes", "sourceCodeHash"]
            ),
            **code,
        )


def layer_name(place: Place, package: str) -> str:
    """Return a layer's name on AWS, where dots are not allowed."""
    return place.name(package.replace(".", "-"))


def _resource_name(place: Place, layer: str, digest: str) -> str:
    """Return a resource name for one content: another content makes another resource, so both can exist."""
    return f"{layer.removeprefix(place.name(''))}-{digest[:16]}"


def find_kept(
    built: Sequence[BuiltPackage], there: Mapping[str, Sequence[str]], place: Place, keep: int | None
) -> list[KeptLayer]:
    """Return the layer versions of earlier deployments that are kept.

    Args:
        built: the packages of this deployment.
        there: the stack's existing layers on AWS with the digests of their content, newest first.
        place: contains the layers' names.
        keep: how many of each are kept in addition to the current one; None keeps all, while a release's baseline may
            use them.
    """
    present = {layer_name(place, package.name): package.digest for package in built if package.kind == "layer"}
    if not present:
        return []
    return [
        KeptLayer(layer, digest)
        for layer, digests in sorted(there.items())
        for digest in [text for text in dict.fromkeys(digests) if text != present.get(layer)][:keep]
    ]


def is_large(package: BuiltPackage) -> bool:
    """Whether Lambda accepts the zip only through S3."""
    return package.zip_bytes > DIRECT_ZIP_BYTES
