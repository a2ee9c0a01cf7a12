"""Connects to the store of a function's deployment, with boto3 from Lambda's runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.protocol.aws_requests.bucket import RequestBucket
from turnout.protocol.aws_requests.messages import Queues
from turnout.protocol.aws_requests.settings import DEAD_VARIABLE, QUEUE_VARIABLE
from turnout.protocol.aws_requests.store import RequestStore
from turnout.protocol.aws_requests.stored_requests import BUCKET_VARIABLE

TRACE_HEADER = "X-Amzn-Trace-Id"


def connect(environ: Mapping[str, str]) -> RequestStore:
    """Return the store in a function's environment."""
    import boto3
    from botocore.config import Config

    # The bucket's own region is in its addresses, so that signed ones are not redirected.
    config = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
    region = environ["AWS_REGION"]
    s3: Any = boto3.client("s3", region_name=region, config=config, endpoint_url=_endpoint_of(environ, region))
    sqs: Any = boto3.client("sqs", region_name=region)
    sqs.meta.events.register("before-sign.sqs.SendMessage", _begin_chain)
    queues = Queues(sqs, environ[QUEUE_VARIABLE], environ.get(DEAD_VARIABLE, ""))
    return RequestStore(RequestBucket(s3, environ[BUCKET_VARIABLE]), queues)


def _begin_chain(request: Any, **_: Any) -> None:
    """Remove the trace from a message, so that Lambda counts no invocations before it.

    The worker sends a retry to its own queue. Lambda takes more than 16 such messages in a row for an endless loop and
    moves the next one to the dead letters, but a request may be throttled for longer than that. Its attempts, its
    webhook's attempts and its time to live are limited. Source: AWS Lambda Developer Guide, "Use Lambda recursive loop
    detection to prevent infinite loops"; botocore adds the header (`add_recursion_detection_header`).
    """
    del request.headers[TRACE_HEADER]


def _endpoint_of(environ: Mapping[str, str], region: str) -> str | None:
    """Return S3's endpoint of a region; None if the environment sets another, which boto3 reads itself."""
    if environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"):
        return None
    from turnout.protocol.aws.regions import dns_suffix

    return f"https://s3.{region}.{dns_suffix(region)}"
