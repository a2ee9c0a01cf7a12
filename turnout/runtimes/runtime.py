"""The interface of a model runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from turnout.artifacts.artifact import Artifact, Reading
from turnout.protocol.tensors.datatypes import Array, Signature


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A version's files before they are inspected.

    Args:
        path: the file that models.yaml names, absolute.
        files: what lies beside it and belongs to it, where the runtime takes a folder.
        signature: the declared one, where the runtime needs one.
    """

    path: Path
    files: tuple[Path, ...] = ()
    signature: Signature | None = None


class Inspect(Protocol):
    """Reads a version's files; an ArtifactError where it cannot be served."""

    def __call__(self, source: VersionFiles, cache_dir: Path | None, *, reading: Reading) -> Artifact:
        """Return what the files hold; `cache_dir` remembers it, `reading` is entered while a digest is taken."""
        ...


Arrays = Mapping[str, Array]
"""Input name -> its array."""

Optimise = Callable[[Path, Path, Signature, Sequence[Arrays]], str]
"""Writes an optimised file from the first path to the second; empty, or why the given file is kept. Runs in a process
of its own: a function of a module."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The packages that a runtime's functions import.

    Args:
        lock: the pinned packages, with hashes.
        left_out: patterns of files that no inference reads, relative to the layer's site-packages.
        unzipped_bytes: architecture -> its size, measured with Python 3.13; an estimate until it is built.
    """

    lock: Path
    left_out: tuple[str, ...]
    unzipped_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One model runtime.

    Args:
        name: as `runtime` in models.yaml has it.
        package: its folder below model_lambdas/, which goes into its versions' zips.
        opener: the module below model_lambdas/ whose `Model` opens a version.
        platform: what the Open Inference Protocol's metadata call it.
        artifact: what `artifact` names, for messages: `an ONNX file`.
        suffix: of that file.
        model_file: how `turnout add` calls that file in the version's folder; empty keeps its name.
        inspect: reads a version's files.
        digest_of: the digest of a version's file and of those that belong to it.
        layer: what its functions import.
        imports: what an opener imports first, for measuring cold starts.
        bare_script: a Python script that opens a model without Turnout, for comparison; empty for none.
        takes_folder: whether everything beside the artifact belongs to it.
        declares_signature: whether models.yaml declares the signature, and not the file.
        runs_own_code: whether a version runs its owner's Python: it may have `requirements` and needs no transform.
        is_tried: whether some requests may end the process, so that each version is tried (`turnout.trials`).
        in_s3: whether the artifact may be `s3://bucket/key`.
        engine: the package that optimises and runs models; its release is part of what they come to. Empty for none.
        optimise: makes the file that is packaged, or None.
    """

    name: str
    package: str
    opener: str
    platform: str
    artifact: str
    suffix: str
    model_file: str
    inspect: Inspect
    digest_of: Callable[[Path, Iterable[Path]], str]
    layer: Layer
    imports: tuple[str, ...] = ()
    bare_script: str = ""
    takes_folder: bool = False
    declares_signature: bool = False
    runs_own_code: bool = False
    is_tried: bool = False
    in_s3: bool = False
    engine: str = ""
    optimise: Optimise | None = None
