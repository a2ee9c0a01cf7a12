"""From where a stage may be called and by whom: the keys of a stage's `cors`, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cors:
    """Which web pages may call a stage from a browser.

    Args:
        origins: scheme, host and port of each; `*` alone is every origin.
        headers: that a page may send.
        methods: that a page may use.
        max_age_s: how long a browser may remember a preflight's answer.
        credentials: whether a page may send cookies and HTTP authentication.
    """

    origins: tuple[str, ...]
    headers: tuple[str, ...] = (
        "Authorization",
        "Content-Type",
        "Inference-Header-Content-Length",
        "x-api-key",
        "x-turnout-version",
    )
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    max_age_s: int = 600
    credentials: bool = False


def read_cors(fields: Mapping[str, Any]) -> Cors:
    """The `cors` of a stage in a tree in which nothing is wrong."""
    readers = {"origins": tuple, "headers": tuple, "methods": tuple, "max_age_s": int, "credentials": bool}
    return Cors(**{key: read(fields[key]) for key, read in readers.items() if key in fields})
