"""Rules of Lambda between the keys of one version: combinations that it rejects.

Source: AWS Lambda Developer Guide, "Improving startup performance with Lambda SnapStart", limitations; Lambda's API,
PutProvisionedConcurrencyConfig: "Requested Provisioned Concurrency should not be greater than the
reservedConcurrentExecution for function".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from turnout.manifest.schema import Finding
from turnout.manifest.tree import Tree, mapping
from turnout.yaml_text.reader import KeyPath

SNAP_START_DISK_MB = 512
"""The only size of /tmp that SnapStart allows: Lambda's smallest."""


def check_version_keys(path: KeyPath, fields: Tree) -> Iterator[Finding]:
    """Check the keys of the version at `path` against each other."""
    warm = mapping(fields.get("warm"))
    disk_mb = _number(fields.get("ephemeral_storage_mb"))
    if warm.get("snap_start") is True and disk_mb is not None and disk_mb > SNAP_START_DISK_MB:
        yield Finding(
            (*path, "ephemeral_storage_mb"),
            f"must be {SNAP_START_DISK_MB} with `snap_start`, got {disk_mb:g}: Lambda refuses more /tmp with SnapStart",
            "Delete it, or delete `snap_start`.",
        )
    provisioned, reserved = _number(warm.get("provisioned")), _number(fields.get("reserved_concurrency"))
    if provisioned is not None and reserved is not None and provisioned > reserved:
        yield Finding(
            (*path, "warm", "provisioned"),
            f"must be at most `reserved_concurrency`, {reserved:g}, got {provisioned:g}",
            f"Set `reserved_concurrency` to {provisioned:g} or more, delete it, or lower `provisioned`.",
        )
    artifact = fields.get("artifact")
    if "kms_key_arn" in fields and isinstance(artifact, str) and not artifact.startswith("s3://"):
        yield Finding(
            (*path, "kms_key_arn"),
            "applies to artifacts in S3, but the artifact is a local file",
            "Delete it, or keep the artifact in S3: `artifact: s3://bucket/key`.",
        )
    key = fields.get("kms_key_arn")
    if isinstance(key, str) and re.fullmatch(r"(arn:[a-z-]+:kms:[^:]*:[^:]*:)?alias/.+", key):
        yield Finding(
            (*path, "kms_key_arn"),
            "must be the ARN of the key, not an alias: IAM policies cannot name a key by its alias",
            "Look up the key's ARN: aws kms describe-key --key-id ALIAS --query KeyMetadata.Arn",
        )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
