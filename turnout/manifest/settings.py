"""The settings of a version's function: each key's value and its reader, in one place.

The plan's `Function` contains them unchanged. A new key needs a place in the schema, a field and a reader here, and the
one module that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Warm:
    """Warm-up settings; at most one of the two."""

    provisioned: int = 0
    snap_start: bool = False


@dataclass(frozen=True, slots=True)
class Slo:
    """Objectives of a version or a stage; 0 for none."""

    p99_ms: float = 0.0
    error_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Capture:
    """The percentage of a version's requests that AWS logs, 0-100, and the inputs whose values are left out."""

    percent: float
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A version's settings for its function.

    Args:
        architecture: `arm64` or `x86_64`.
        memory_mb: 128-10240; 1,769 MB is one vCPU.
        timeout_s: 1-900; API Gateway ends a call at 29 s.
        asynchronous: whether asynchronous runs may use the whole `timeout_s`.
        warm: provisioned concurrency or SnapStart.
        reserved_concurrency: most concurrent calls; None for the account's limit.
        ephemeral_storage_mb: the function's /tmp, 512-10240.
        environment: variables for the version's own Python; the deployment adds Turnout's own.
        tracing: whether X-Ray traces the function.
        slo: its service level objectives.
        capture: the share of its requests to log, or None.
    """

    architecture: str = "arm64"
    memory_mb: int = 1024
    timeout_s: int = 15
    asynchronous: bool = False
    warm: Warm = Warm()
    reserved_concurrency: int | None = None
    ephemeral_storage_mb: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)
    tracing: bool = False
    slo: Slo = Slo()
    capture: Capture | None = None


def read_slo(fields: Mapping[str, Any]) -> Slo:
    """Return the objectives of a version or a stage in a valid tree."""
    return Slo(float(fields.get("p99_ms", 0)), float(fields.get("error_percent", 0)))


def _read_warm(fields: Mapping[str, Any]) -> Warm:
    return Warm(int(fields.get("provisioned", 0)), fields.get("snap_start", False))


def _read_capture(fields: Mapping[str, Any]) -> Capture:
    return Capture(float(fields["percent"]), tuple(fields.get("redact", ())))


READERS: Mapping[str, Callable[[Any], Any]] = {
    "architecture": str,
    "memory_mb": int,  # 512.0 is an integer, too
    "timeout_s": int,
    "async": bool,
    "warm": _read_warm,
    "reserved_concurrency": int,
    "ephemeral_storage_mb": int,
    "environment": dict,
    "tracing": bool,
    "slo": read_slo,
    "capture": _read_capture,
}
"""Key of a version -> function that makes its value from the file's."""

FIELD_OF: Mapping[str, str] = {"async": "asynchronous"}
"""Key of a version -> its field, if Python does not allow the key as a name."""


def read_settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Settings` that a version sets, in a valid tree."""
    return {FIELD_OF.get(key, key): read(fields[key]) for key, read in READERS.items() if key in fields}
