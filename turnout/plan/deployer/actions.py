"""The actions of Pulumi's AWS provider on each kind of resource, for the policy of the deployer.

Source: the calls of terraform-provider-aws v6 for each resource type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LAMBDA_ACTIONS: Mapping[str, Sequence[str]] = {
    "function": (
        "AddPermission",
        "CreateAlias",
        "CreateFunction",
        "DeleteAlias",
        "DeleteFunction",
        "DeleteFunctionConcurrency",
        "DeleteFunctionEventInvokeConfig",
        "DeleteProvisionedConcurrencyConfig",
        "GetAlias",
        "GetFunction",
        "GetFunctionCodeSigningConfig",
        "GetFunctionConcurrency",
        "GetFunctionConfiguration",
        "GetFunctionEventInvokeConfig",
        "GetPolicy",
        "GetProvisionedConcurrencyConfig",
        "GetRuntimeManagementConfig",
        "InvokeFunction",
        "ListAliases",
        "ListTags",
        "ListVersionsByFunction",
        "PublishVersion",
        "PutFunctionConcurrency",
        "PutFunctionEventInvokeConfig",
        "PutProvisionedConcurrencyConfig",
        "RemovePermission",
        "TagResource",
        "UntagResource",
        "UpdateAlias",
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
        "UpdateFunctionEventInvokeConfig",
    ),
    "layer": ("DeleteLayerVersion", "GetLayerVersion", "ListLayerVersions", "PublishLayerVersion"),
    "account": ("GetAccountSettings", "ListFunctions", "ListLayers"),
}

ROLE_ACTIONS = (
    "DeleteRole",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "GetRole",
    "GetRolePolicy",
    "ListAttachedRolePolicies",
    "ListInstanceProfilesForRole",
    "ListRolePolicies",
    "TagRole",
    "UntagRole",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
)

BOUNDED_ROLE_ACTIONS = ("AttachRolePolicy", "CreateRole", "PutRolePermissionsBoundary", "PutRolePolicy")
"""Actions that give a role permissions: where the stack has a permissions boundary, only for roles with that boundary.
Source: Service Authorization Reference, "AWS Identity and Access Management", `iam:PermissionsBoundary`.
"""

LOG_ACTIONS = (
    "AssociateKmsKey",
    "CreateLogGroup",
    "DeleteLogGroup",
    "DeleteRetentionPolicy",
    "DisassociateKmsKey",
    "ListTagsForResource",
    "PutRetentionPolicy",
    "TagResource",
    "UntagResource",
)

BUCKET_ACTIONS = (
    "CreateBucket",
    "DeleteBucket",
    "GetAccelerateConfiguration",
    "GetBucketAcl",
    "GetBucketCORS",
    "GetBucketLogging",
    "GetBucketObjectLockConfiguration",
    "GetBucketPolicy",
    "GetBucketPublicAccessBlock",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetBucketWebsite",
    "GetEncryptionConfiguration",
    "GetLifecycleConfiguration",
    "GetReplicationConfiguration",
    "ListBucket",
    "ListBucketVersions",
    "PutBucketPublicAccessBlock",
    "PutBucketTagging",
    "PutEncryptionConfiguration",
)

OBJECT_ACTIONS = (
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjectVersion",
    "GetObject",
    "GetObjectTagging",
    "GetObjectVersion",
    "PutObject",
    "PutObjectTagging",
)

ALARM_ACTIONS = (
    "DeleteAlarms",
    "ListTagsForResource",
    "PutMetricAlarm",
    "TagResource",
    "UntagResource",
)

RULE_ACTIONS = (
    "DeleteRule",
    "DescribeRule",
    "ListTagsForResource",
    "ListTargetsByRule",
    "PutRule",
    "PutTargets",
    "RemoveTargets",
    "TagResource",
    "UntagResource",
)

QUEUE_ACTIONS = (
    "CreateQueue",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListQueueTags",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
)

VERBS = ("DELETE", "GET", "PATCH", "POST", "PUT")
