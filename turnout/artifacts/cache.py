"""Caches the results of inspecting model files as small JSON files: digests by path, signatures by digest.

The folder contains `files/<sha256 of the path>.json` (size, times and inode of the file and of its external data, and
the digest) and `signatures/<digest>.json` (signature and operators).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from turnout import __version__
from turnout.artifacts.graph_operators import GraphOperators
from turnout.protocol.tensors.datatypes import Signature
from turnout.system.files import write_whole

FORMAT = f"{__version__}/3"
"""Increase this number whenever the same bytes would result in another signature, digest or entry than before."""

SETTLED_AFTER_S = 2.0
"""A file changed less than this ago may change again under the same timestamp (FAT counts in steps of 2 s)."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The state of files on disk.

    Args:
        values: size, mtime and ctime in ns, and inode, of the model file and then of each data file.
        size_bytes: the total size.
        changed_s: when the last of them changed, in seconds since the epoch.
    """

    values: tuple[int, ...]
    size_bytes: int
    changed_s: float

    def settled(self, now_s: float) -> bool:
        """Whether any later change will certainly show in the values."""
        return now_s - self.changed_s >= SETTLED_AFTER_S


def fingerprint_of(paths: tuple[Path, ...]) -> Fingerprint:
    """Return the common fingerprint of files; raise OSError if one is missing."""
    statuses = [os.stat(path) for path in paths]  # noqa: PTH116 - Path.stat takes twice as long
    return Fingerprint(
        tuple(
            number
            for status in statuses
            for number in (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        ),
        sum(status.st_size for status in statuses),
        max(status.st_ctime for status in statuses),
    )


@dataclass(frozen=True, slots=True)
class Inspection:
    """The cached result of reading a graph, from any file."""

    signature: Signature
    operators: GraphOperators


@dataclass(frozen=True, slots=True)
class ArtifactCache:
    """A cache folder. Every write is one rename, so readers never see half an entry."""

    folder: Path

    def digest(self, path: Path) -> tuple[str, tuple[Path, ...], int] | None:
        """Return digest, external data files and total bytes of the model file `path`, if its files are unchanged."""
        entry = _read(self._file_entry(path))
        try:
            if entry is None or entry["path"] != str(path):
                return None
            external = tuple(path.parent / name for name in entry["external"])
            now = fingerprint_of((path, *external))
            if list(now.values) != entry["fingerprint"]:
                return None
            return _digest(entry["sha256"]), external, now.size_bytes
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def inspection(self, sha256: str) -> Inspection | None:
        """Return the cached inspection of the model with this digest."""
        entry = _read(self._signature_entry(sha256))
        try:
            if entry is None:
                return None
            operators = GraphOperators(tuple(map(str, entry["operators"])), bool(entry["follows_values"]))
            return Inspection(Signature.from_json(entry["signature"]), operators)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def store_digest(self, path: Path, sha256: str, external: tuple[Path, ...], fingerprint: Fingerprint) -> None:
        """Cache the digest of files with this fingerprint."""
        names = [file.relative_to(path.parent).as_posix() for file in external]
        fields = {"path": str(path), "sha256": sha256, "external": names, "fingerprint": list(fingerprint.values)}
        _write(self._file_entry(path), fields)

    def store_inspection(self, sha256: str, inspection: Inspection) -> None:
        """Cache the inspection of a model."""
        fields = {
            "signature": inspection.signature.to_json(),
            "operators": inspection.operators.names,
            "follows_values": inspection.operators.follows_values,
        }
        _write(self._signature_entry(sha256), fields)

    # Texts, because thousands of entries are read at each reload, and joining a Path takes longer than reading a file.

    def _file_entry(self, path: Path) -> str:
        return f"{self.folder}/files/{hashlib.sha256(os.fsencode(path)).hexdigest()}.json"

    def _signature_entry(self, sha256: str) -> str:
        return f"{self.folder}/signatures/{sha256}.json"


def _digest(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value
    raise ValueError("no digest")


def _read(path: str) -> Mapping[str, Any] | None:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see `_file_entry`
            entry = orjson.loads(file.read())
    except (OSError, orjson.JSONDecodeError):
        return None
    return entry if isinstance(entry, dict) and entry.get("format") == FORMAT else None


def _write(name: str, fields: Mapping[str, Any]) -> None:
    """Write an entry, or skip it: a folder that is not writable only costs time."""
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = orjson.dumps({"format": FORMAT, **fields})
        write_whole(path, data)
    except (OSError, orjson.JSONEncodeError):
        return


Clock = Callable[[], float]
"""Seconds since the epoch, as `time.time`."""
