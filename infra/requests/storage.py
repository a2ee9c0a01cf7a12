"""The bucket and the queues of asynchronous requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from turnout.manifest.access import Cors
from turnout.plan.values import Plan
from turnout.protocol.aws_requests.settings import BODIES, DEAD_VARIABLE, QUEUE_VARIABLE, SETTINGS_KEY, VISIBILITY_S
from turnout.protocol.aws_requests.stored_requests import BUCKET_VARIABLE

from ..naming import Place
from ..stack.buckets import block_public_access, encrypt_bucket
from ..stack.settings import StackSettings
from .asked import EXPOSED_BY_S3, MOST_RECEIVES, Kept, make_settings, plan_cors, plan_lifecycle

RETENTION_S = 1_209_600
"""How long a queue keeps a message: SQS's limit, and the longest `time_to_live_s`."""


@dataclass(frozen=True, slots=True)
class RequestStorageArgs:
    """Arguments of the storage."""

    place: Place
    plan: Plan
    settings: StackSettings = field(default_factory=StackSettings)


class RequestStorage(pulumi.ComponentResource):
    """The bucket with its rules, the queue and its dead-letter queue.

    Attributes:
        environment: the variables that contain their names.
        bucket: the bucket of bodies, answers and states.
        queue: the queue.
        dead_letters: the dead-letter queue.
        settings_object: must exist before a function accepts a request.
    """

    def __init__(self, name: str, args: RequestStorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("turnout:infra:RequestStorage", name, None, opts)
        self._within = pulumi.ResourceOptions(parent=self)
        self.bucket, rules = self._make_bucket(name, args)
        self.settings_object = aws.s3.BucketObjectv2(
            f"{name}-settings",
            bucket=self.bucket.id,
            key=SETTINGS_KEY,
            content=make_settings(args.plan).to_json().decode(),
            content_type="application/json",
            opts=pulumi.ResourceOptions(parent=self, depends_on=rules),
        )
        self.dead_letters = aws.sqs.Queue(
            f"{name}-dead",
            name=args.place.dead_letters,
            message_retention_seconds=RETENTION_S,
            sqs_managed_sse_enabled=True,
            opts=self._within,
        )
        redrive = self.dead_letters.arn.apply(
            lambda arn: json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MOST_RECEIVES})
        )
        self.queue = aws.sqs.Queue(
            name,
            name=args.place.requests,
            visibility_timeout_seconds=VISIBILITY_S,
            message_retention_seconds=RETENTION_S,
            receive_wait_time_seconds=20,
            redrive_policy=redrive,
            sqs_managed_sse_enabled=True,
            opts=self._within,
        )
        self.environment: Mapping[str, pulumi.Input[str]] = {
            BUCKET_VARIABLE: self.bucket.bucket,
            QUEUE_VARIABLE: self.queue.url,
        }
        self.worker_environment = {**self.environment, DEAD_VARIABLE: self.dead_letters.url}
        self.register_outputs({})

    def _make_bucket(self, name: str, args: RequestStorageArgs) -> tuple[aws.s3.Bucket, list[pulumi.Resource]]:
        """Make the bucket, and the settings that must exist before anything is written into it."""
        # Requests are deleted by themselves after their time to live; a stack that is destroyed does not wait for it.
        bucket = aws.s3.Bucket(name, bucket=args.place.requests_bucket, force_destroy=True, opts=self._within)
        block = block_public_access(name, bucket, self._within)
        encryption = encrypt_bucket(name, bucket, args.settings.keys.bucket, self._within)
        rules = [*map(_expire, plan_lifecycle(args.plan)), _UNFINISHED]
        lifecycle = aws.s3.BucketLifecycleConfiguration(name, bucket=bucket.id, rules=rules, opts=self._within)
        made: list[pulumi.Resource] = [block, encryption, lifecycle]
        rules_of_pages = [_allow_pages(cors) for cors in plan_cors(args.plan)]
        if rules_of_pages:
            made.append(
                aws.s3.BucketCorsConfiguration(name, bucket=bucket.id, cors_rules=rules_of_pages, opts=self._within)
            )
        return bucket, made


def _allow_pages(cors: Cors) -> aws.s3.BucketCorsConfigurationCorsRuleArgsDict:
    return {
        "allowed_origins": cors.origins,
        "allowed_methods": cors.methods,
        "allowed_headers": cors.headers,
        "expose_headers": EXPOSED_BY_S3,
        "max_age_seconds": cors.max_age_s,
    }


def _expire(kept: Kept) -> aws.s3.BucketLifecycleConfigurationRuleArgsDict:
    return {
        "id": kept.name,
        "status": "Enabled",
        "filter": {"prefix": kept.prefix},
        "expiration": {"days": kept.days},
    }


_UNFINISHED: aws.s3.BucketLifecycleConfigurationRuleArgsDict = {
    "id": "unfinished-uploads",
    "status": "Enabled",
    "filter": {"prefix": BODIES},
    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
}
