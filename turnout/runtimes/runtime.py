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
        path: absolute path of the version's file.
        files: the files beside it that belong to it, if the runtime includes a folder.
        signature: the declared signature, if the runtime needs one.
    """

    path: Path
    files: tuple[Path, ...] = ()
    signature: Signature | None = None


class Inspect(Protocol):
    """Reads a version's files; raises ArtifactError if it cannot be served."""

    def __call__(self, source: VersionFiles, cache_dir: Path | None, *, reading: Reading) -> Artifact:
        """Return the files' data; `cache_dir` caches it, `reading` is active while a digest is computed."""
        ...


Arrays = Mapping[str, Array]
"""Input name -> its array."""

Optimize = Callable[[Path, Path, Signature, Sequence[Arrays]], str]
"""Writes an optimized file from the first path to the second; returns empty text, or why the given file is kept. It is
a module's function, since it runs in its own process.
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """The packages that a runtime's functions import.

    Args:
        lock: the pinned packages, with hashes.
        left_out: patterns of files that no inference reads, relative to the layer's site-packages.
        unzipped_bytes: architecture -> its size, measured with Python 3.13; an estimate until it is built.
        own_bytes: room for the packages that a version requires, whose size is unknown until the layer is built.
    """

    lock: Path
    left_out: tuple[str, ...]
    unzipped_bytes: Mapping[str, int]
    own_bytes: int


@dataclass(frozen=True, slots=True)
class Runtime:
    """One model runtime.

    Args:
        name: name in `runtime` of models.yaml.
        package: its folder below model_lambdas/, which is part of its versions' zips.
        opener: the module below model_lambdas/ whose `Model` opens a version.
        platform: its name in the Open Inference Protocol's metadata.
        artifact: description of the `artifact` file for messages: `an ONNX file`.
        suffix: suffix of that file.
        model_file: name that `turnout add` gives that file in the version's folder; empty keeps its name.
        inspect: reads a version's files.
        digest_of: returns the digest of a version's file and of those that belong to it.
        layer: the packages that its functions import.
        imports: the modules that an opener imports first, for measuring cold starts.
        bare_script: a Python script that opens a model without Turnout, for comparison, or empty.
        takes_folder: whether all files beside the artifact belong to it.
        declares_signature: whether models.yaml, and not the file, declares the signature.
        runs_own_code: whether a version runs user code in Python: it may have `requirements` and needs no transform.
        is_tried: whether some requests may crash the process, so each version is tried (`turnout.trials`).
        in_s3: whether the artifact may be `s3://bucket/key`.
        engine: the package that optimizes and runs models; its release affects their results. Empty for none.
        optimize: makes the file to package, or None.
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
    optimize: Optimize | None = None
