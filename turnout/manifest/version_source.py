"""Where a version came from: the `source` that `turnout add` writes into models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

OBJECT_STORES = frozenset({"s3", "gs"})
"""Schemes whose addresses have no query: `?` and `#` are characters of an object's name."""

SHORT_REVISION = 12
"""Characters of a revision in a table: so many identify a commit."""


@dataclass(frozen=True, slots=True)
class VersionSource:
    """Where a version came from.

    Args:
        address: what `turnout add` was given, without secrets.
        revision: what it stood for: a registry's version, a commit; or empty.
        sha256: of the original, or empty.
        converter: what made an ONNX file of it, or empty.
        packages: that converted it -> their versions.
        date: in UTC, or empty.
        report: path of the proof, or empty.
    """

    address: str
    revision: str = ""
    sha256: str = ""
    converter: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    report: str = ""

    def to_json(self) -> dict[str, Any]:
        """What is known of it, as models.yaml has it; secrets that somebody typed into the address are left out."""
        fields = {name: value for name, value in asdict(self).items() if value}
        return {**fields, "address": without_secrets(self.address)}

    def to_text(self) -> str:
        """`mlflow:iris@champion (3, sklearn)`, for a table."""
        details = ", ".join(filter(None, (self.revision[:SHORT_REVISION], self.converter)))
        address = without_secrets(self.address)
        return f"{address} ({details})" if details else address


def without_secrets(address: str) -> str:
    """An address without user, password, query and fragment: presigned URLs carry their secret there."""
    try:
        parts = urlsplit(address)
    except ValueError:  # not a valid address, such as `https://[`
        return address.partition(":")[0] + "://..."
    if not parts.netloc:
        return address
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme in OBJECT_STORES:
        return f"{parts.scheme}://{host}{address.partition(parts.netloc)[2]}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
