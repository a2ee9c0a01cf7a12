"""Settings that every bucket of a stack has: no public access, and encryption."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws


def block_public_access(
    name: str, bucket: aws.s3.Bucket, opts: pulumi.ResourceOptions
) -> aws.s3.BucketPublicAccessBlock:
    """Forbid public access to a bucket and its objects."""
    return aws.s3.BucketPublicAccessBlock(
        name,
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=opts,
    )


def encrypt_bucket(
    name: str, bucket: aws.s3.Bucket, key: str, opts: pulumi.ResourceOptions
) -> aws.s3.BucketServerSideEncryptionConfiguration:
    """Encrypt a bucket's objects with the KMS key of this ARN; with S3's own key if it is empty."""
    rule: aws.s3.BucketServerSideEncryptionConfigurationRuleArgsDict
    if key:
        by_default = {"sse_algorithm": "aws:kms", "kms_master_key_id": key}
        rule = {"apply_server_side_encryption_by_default": by_default, "bucket_key_enabled": True}  # type: ignore[typeddict-item]
    else:
        rule = {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}
    return aws.s3.BucketServerSideEncryptionConfiguration(name, bucket=bucket.id, rules=[rule], opts=opts)
