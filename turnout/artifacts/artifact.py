"""Model files on disk: digest, size and signature, each read once and then cached by digest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from turnout.artifacts.cache import ArtifactCache, Clock, Inspection, fingerprint_of
from turnout.artifacts.graph_operators import UNKNOWN_OPERATORS, GraphOperators, operators_of
from turnout.artifacts.onnx_file import ArtifactError, read_graph, refuse_other_kinds, tensors_of, text_of
from turnout.artifacts.onnx_signature import signature_of
from turnout.protocol.artifact_digest import combine_digests, sort_external
from turnout.protocol.tensors.datatypes import Signature
from turnout.system.files import file_digest

if TYPE_CHECKING:
    import onnx

__all__ = ["Artifact", "ArtifactError", "digest_of", "load_artifact"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One inspected model file.

    Args:
        path: the ONNX file, absolute.
        sha256: digest of the ONNX file and its external data files, if any (see `digest_of`); 64 hex digits.
        size_bytes: the size of all its files together.
        signature: the inputs and outputs that clients see: the graph's, or those that its version declares instead.
        external_files: the external data files it names, absolute, each below the ONNX file's folder.
        operators: the operators of its graph.
        graph: the graph's own inputs and outputs, if its version declares others.
    """

    path: Path
    sha256: str
    size_bytes: int
    signature: Signature
    external_files: tuple[Path, ...] = ()
    operators: GraphOperators = UNKNOWN_OPERATORS
    graph: Signature | None = None

    @property
    def graph_signature(self) -> Signature:
        """The session's inputs and outputs."""
        return self.signature if self.graph is None else self.graph


Reading = Callable[[str, int], AbstractContextManager[None]]
"""Entered with a file's name and its artifact's size in bytes while a digest is computed, which takes long for a large
file.
"""


def unremarked(_: str, __: int) -> AbstractContextManager[None]:
    """The `Reading` that reports nothing."""
    return nullcontext()


def load_artifact(
    path: Path, cache_dir: Path | None, *, clock: Clock = time.time, reading: Reading = unremarked
) -> Artifact:
    """Inspect one model file, or return the cached result if it has not changed.

    Args:
        path: the ONNX file; a relative path is relative to the working directory.
        cache_dir: the folder of the cache; `None` always inspects. It need not exist or be writable.
        clock: shows whether a file has just been written, in which case its digest is not cached.
        reading: entered while the digest is computed, but not if it is cached.

    Raises:
        ArtifactError: the file is missing or is not an ONNX model; its external data is missing, truncated or outside
            its folder; or an input or output cannot be served.
    """
    path = path.absolute()
    cache = ArtifactCache(cache_dir) if cache_dir is not None else None
    if cache is not None and (known := cache.digest(path)) is not None:
        sha256, external, size = known
        inspection = cache.inspection(sha256)
        if inspection is not None:
            return Artifact(path, sha256, size, inspection.signature, external, inspection.operators)
    model = read_graph(path)
    inspection = Inspection(signature_of(model, path.name), operators_of(model))
    external = _external_files(model, path)
    before = fingerprint_of((path, *external))
    with reading(path.name, before.size_bytes):
        sha256 = digest_of(path, external)
    if cache is not None:
        cache.store_inspection(sha256, inspection)
        if before.settled(clock()) and fingerprint_of((path, *external)) == before:
            cache.store_digest(path, sha256, external, before)
    return Artifact(path, sha256, before.size_bytes, inspection.signature, external, inspection.operators)


def digest_of(path: Path, external_files: Iterable[Path] = ()) -> str:
    """Return the artifact's digest, 64 hex digits.

    Without external data it is the file's SHA-256, as printed by `sha256sum model.onnx`. With external data it is the
    SHA-256 of a list of SHA-256s, one per line: the ONNX file's, then the data files' in the order of their names
    within the folder: `sha256sum model.onnx a.bin b.bin | cut -c-64 | sha256sum`. The ONNX file contains the data
    files' names, so the digest covers them, too, but not the ONNX file's own name.
    """
    return combine_digests([sha256_of(file) for file in (path, *sort_external(path, tuple(external_files)))])


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256; raise an ArtifactError if it cannot be read."""
    try:
        return file_digest(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None


def _external_files(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Return the data files that the model names, checked, each once, ordered by name."""
    from onnx import TensorProto

    needed: dict[str, int] = {}
    for tensor in tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            pairs = {text_of(pair.key): text_of(pair.value) for pair in tensor.external_data}
            name = _checked_location(pairs.get("location", ""), tensor.name, path.name)
            end = _number(pairs.get("offset", "0")) + _number(pairs.get("length", "0"))
            needed[name] = max(needed.get(name, 0), end)
    for name, end in needed.items():
        _check_data_file(path, name, end)
    return tuple(path.parent / name for name in sorted(needed))


def _checked_location(location: str, tensor: str, name: str) -> str:
    """Return the data file's name relative to the folder; raise an ArtifactError if it may lead out of the folder."""
    parts = PurePosixPath(location)
    if not parts.parts:
        raise ArtifactError(f"{name}: tensor `{tensor}` has external data without a file name")
    if parts.is_absolute() or ".." in parts.parts or "\0" in location:
        raise ArtifactError(
            f"{name}: tensor `{tensor}` has its data in `{location}`, outside the model's folder",
            "Save it with the data next to it: onnx.save(model, path, save_as_external_data=True, location=NAME).",
        )
    return str(parts)


def _check_data_file(path: Path, name: str, end: int) -> None:
    """Raise an ArtifactError unless the data file exists inside the folder and contains `end` bytes."""
    file = path.parent / name
    if not file.is_file():
        raise ArtifactError(f"{path.name} needs the file {name} next to it: no such file", f"Copy {name} there.")
    # A model hub's cache links both to one folder of blobs: the two may also be next to each other after the links are
    # followed.
    real = file.resolve()
    if not any(real.is_relative_to(folder) for folder in (path.parent.resolve(), path.resolve().parent)):
        raise ArtifactError(f"{path.name} needs the file {name}, a link to outside of the model's folder")
    size = file.stat().st_size
    if size < end:
        with file.open("rb") as handle:
            refuse_other_kinds(name, handle.read(64))
        raise ArtifactError(
            f"{path.name} needs {end:,} bytes of {name}, which has {size:,}",
            "Check that the download or copy is complete.",
        )


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise ArtifactError(f"external data at offset or of length `{text}`: not a number of bytes")
