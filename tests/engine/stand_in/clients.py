"""boto3's clients, one of each service: making one takes longer than most calls of moto."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3

from tests.builders.iam import Recorder

RECORDER = Recorder()
"""The stand-in's calls, for the deployer's policy; emptied when an account begins."""


@cache
def client_of(service: str) -> Any:
    """The service's client; the cache is cleared when an account begins."""
    client = boto3.client(service)
    RECORDER.listen(client)
    return client
