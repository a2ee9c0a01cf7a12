"""boto3's clients, one of each service: making one takes longer than most calls of moto."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3


@cache
def client_of(service: str) -> Any:
    """The service's client; the cache is cleared when an account begins."""
    return boto3.client(service)
