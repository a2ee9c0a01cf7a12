"""Model files as they lie on the disk: digest, size and signature, each read once and then cached by digest.

Comes in: paths. Goes out: `Artifact` values. Called by the command line and the gateway before they plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turnout.protocol.tensors import Signature


@dataclass(frozen=True, slots=True)
class Artifact:
    """One model file, inspected.

    Args:
        path: the ONNX file, absolute.
        sha256: of the ONNX file and, where it has some, its external data files (see `digest_of`); 64 hex digits.
        size_bytes: all its files together.
        signature: its inputs and outputs.
        external_files: the external data files it names, absolute, each below the ONNX file's folder.
    """

    path: Path
    sha256: str
    size_bytes: int
    signature: Signature
    external_files: tuple[Path, ...] = ()
