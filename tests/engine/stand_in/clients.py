"""boto3's clients, one for each service, because making one takes longer than most calls of moto."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse, HeadersDict
from moto.core.models import botocore_stubber

from tests.builders.iam import Recorder


@cache
def checking_client(service: str) -> Any:
    """Return a client for AWS's own look at the account, which needs no permission of the deployer."""
    return boto3.client(service)


RECORDER = Recorder(checking_client)
"""The stand-in's calls, for the deployer's policy; cleared when an account starts."""


@cache
def client_of(service: str) -> Any:
    """Return the service's client; the cache is cleared when an account starts."""
    client = boto3.client(service)
    RECORDER.listen(client)
    return client


def forget_clients() -> None:
    """Make new clients for another account."""
    checking_client.cache_clear()
    client_of.cache_clear()
    _silent_client.cache_clear()


def record_call(service: str, operation: str, **parameters: Any) -> None:
    """Make a call of which only the permission matters: it is recorded and answered with nothing."""
    getattr(_silent_client(service), operation)(**parameters)


@cache
def _silent_client(service: str) -> Any:
    client = boto3.client(service)
    RECORDER.listen(client)
    client.meta.events.unregister("before-send", botocore_stubber)  # moto's: it has not all of these calls
    client.meta.events.register("before-send", _answer_nothing)
    return client


class _Raw(BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


def _answer_nothing(request: Any, **_: Any) -> AWSResponse:
    body = b"<a/>" if "route53" in request.url or "iam." in request.url else b"{}"
    return AWSResponse(request.url, 200, HeadersDict(), _Raw(body))
