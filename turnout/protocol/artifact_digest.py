"""Combines the digests of a model's files into the artifact's digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path


def sort_external(artifact: Path, external_files: Sequence[Path]) -> list[Path]:
    """Return external data files in the order of their digests' combination: sorted by name within the folder."""
    return sorted(external_files, key=lambda file: file.relative_to(artifact.parent).as_posix())


def combine_digests(digests: Sequence[str]) -> str:
    """Return the artifact's digest, made of the SHA-256s of the ONNX file and of its external data.

    Without external data, it is the ONNX file's digest; else the SHA-256 of the list of digests, one per line.
    """
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def combine_named_digests(digests: Mapping[str, str]) -> str:
    """Return the digest of files and their names: the SHA-256 of the output of `sha256sum`, sorted by name.

    Args:
        digests: name relative to the artifact's folder -> SHA-256.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
