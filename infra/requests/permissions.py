"""The permissions of functions for the bucket and the queues of asynchronous requests."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.protocol.aws_requests.settings import ANSWERS, BODIES, SECRET_KEY, SETTINGS_KEY, STATES, UPLOADS

from ..naming import Place
from ..policies import Statement, allow

KEY_USES = ("kms:Decrypt", "kms:GenerateDataKey")
"""Uses of the key that encrypts the bucket: `GenerateDataKey` to write, `Decrypt` to read and to write in parts."""


def allow_accepting(place: Place, kind: str, kms_key_arn: str) -> Iterator[Statement]:
    """Yield the permissions to accept and run requests.

    Args:
        place: names the resources.
        kind: kind of the function, as in the plan. Only the general router reads states and answers.
        kms_key_arn: the key that encrypts the bucket, or empty.
    """
    shown = (STATES, ANSWERS) if kind == "general_router" else ()
    yield allow(["s3:GetObject"], _objects(place, SETTINGS_KEY, *_below(BODIES, UPLOADS, *shown)))
    yield allow(["s3:PutObject"], _objects(place, *_below(STATES, BODIES, ANSWERS, UPLOADS)))
    yield allow(["s3:DeleteObject", "s3:ListMultipartUploadParts"], _objects(place, *_below(BODIES)))
    # Without it, S3 answers 403 instead of 404 for an object that does not exist.
    yield allow(["s3:ListBucket"], [place.bucket_arn(place.requests_bucket)])
    yield allow(["sqs:SendMessage"], [place.queue_arn(place.requests)])
    if kms_key_arn:
        yield allow(KEY_USES, [kms_key_arn])


def allow_working(place: Place, kms_key_arn: str) -> Iterator[Statement]:
    """Yield the worker's permissions besides calling functions and writing its log."""
    yield allow(["s3:GetObject"], _objects(place, SETTINGS_KEY, SECRET_KEY, *_below(STATES, ANSWERS)))
    yield allow(["s3:PutObject"], _objects(place, SECRET_KEY, *_below(STATES, ANSWERS)))
    yield allow(["s3:ListBucket"], [place.bucket_arn(place.requests_bucket)])
    used = ["ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage", "SendMessage"]
    yield allow([f"sqs:{action}" for action in used], [place.queue_arn(place.requests)])
    yield allow(["sqs:SendMessage"], [place.queue_arn(place.dead_letters)])
    if kms_key_arn:
        yield allow(KEY_USES, [kms_key_arn])


def _below(*prefixes: str) -> list[str]:
    return [f"{prefix}*" for prefix in prefixes]


def _objects(place: Place, *keys: str) -> list[str]:
    return [f"{place.bucket_arn(place.requests_bucket)}/{key}" for key in keys]
