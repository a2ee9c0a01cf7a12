"""The origin of a version: the `source` that `turnout add` writes into models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

OBJECT_STORES = frozenset({"s3", "gs"})
"""Schemes whose addresses have no query: `?` and `#` are characters of an object's name."""

SHORT_REVISION = 12
"""Number of characters of a revision in a table: enough to identify a commit."""


@dataclass(frozen=True, slots=True)
class VersionSource:
    """The origin of a version.

    Args:
        address: the argument of `turnout add`, without secrets.
        revision: the revision that the address meant: a registry's version or a commit; or empty.
        sha256: digest of the original file, or empty.
        converter: the converter that made an ONNX file of it, or empty.
        packages: name of each package used for the conversion -> its version.
        date: the date in UTC, or empty.
        report: path of the conversion's report, or empty.
    """

    address: str
    revision: str = ""
    sha256: str = ""
    converter: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    report: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the known fields as models.yaml has them, without secrets that were typed into the address."""
        fields = {name: value for name, value in asdict(self).items() if value}
        return {**fields, "address": without_secrets(self.address)}

    def to_text(self) -> str:
        """Return `mlflow:iris@champion (3, sklearn)`, for a table."""
        details = ", ".join(filter(None, (self.revision[:SHORT_REVISION], self.converter)))
        address = without_secrets(self.address)
        return f"{address} ({details})" if details else address


def without_secrets(address: str) -> str:
    """Return an address without user, password, query and fragment: presigned URLs have secrets in their query."""
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
