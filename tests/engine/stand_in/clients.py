"""boto3's clients, one for each service, because making one takes longer than most calls of moto."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3

from tests.builders.iam import Recorder

RECORDER = Recorder()
"""The stand-in's calls, for the deployer's policy; cleared when an account starts."""


def checking_client(service: str) -> Any:
    """Return a client for AWS's own look at the account, which needs no permission of the deployer."""
    return boto3.client(service)


@cache
def client_of(service: str) -> Any:
    """Return the service's client; the cache is cleared when an account starts."""
    client = boto3.client(service)
    RECORDER.listen(client)
    return client
