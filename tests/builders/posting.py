"""One POST request on its own connection."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from turnout.client.connection import TIMEOUT_S, ApiAnswer, ApiConnection


def post(url: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> ApiAnswer:
    """POST a body and return the answer."""
    with closing(ApiConnection(url, timeout_s=timeout_s)) as connection:
        return connection.request("POST", path, body, headers)
