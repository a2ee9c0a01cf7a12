"""The row of Python: a file with `load(folder)` and `predict(inputs)`, and a declared signature."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from turnout.artifacts.artifact import Artifact, ArtifactError, Reading, sha256_of
from turnout.artifacts.cache import ArtifactCache, fingerprint_of
from turnout.artifacts.python_file import PythonFileError, read_names
from turnout.protocol.artifact_digest import combine_named_digests
from turnout.protocol.tensors.datatypes import Signature
from turnout.runtimes.runtime import Layer, Runtime, VersionFiles

FUNCTIONS = {"load": "def load(folder): ...", "predict": "def predict(inputs): ..."}
"""The functions that the file must define."""


def inspect(source: VersionFiles, cache_dir: Path | None, *, reading: Reading) -> Artifact:
    """Return the data of a Python file and the files beside it, without running it."""
    path = source.path.absolute()
    try:
        names = read_names(path)
    except PythonFileError as error:
        raise ArtifactError(str(error)) from error
    if "*" not in names:
        for name, line in FUNCTIONS.items():
            if name not in names:
                raise ArtifactError(f"{path.name} defines no `{name}`", f"Add: {line}")
    files = tuple(sorted(file for file in source.files if file != path))
    sha256, size_bytes = _digest(path, files, cache_dir, reading)
    return Artifact(path, sha256, size_bytes, source.signature or Signature((), ()), files)


def _digest(path: Path, files: tuple[Path, ...], cache_dir: Path | None, reading: Reading) -> tuple[str, int]:
    """Return the digest of the files' names and bytes, computed or cached."""
    cache = ArtifactCache(cache_dir) if cache_dir is not None else None
    known = cache.digest(path) if cache is not None else None
    if known is not None and known[1] == files:
        return known[0], known[2]
    try:
        before = fingerprint_of((path, *files))
    except OSError as error:
        raise ArtifactError(f"{error.filename} cannot be read: {error.strerror}") from None
    with reading(path.name, before.size_bytes):
        sha256 = digest_of(path, files)
    if cache is not None and before.settled(time.time()) and fingerprint_of((path, *files)) == before:
        cache.store_digest(path, sha256, files, before)
    return sha256, before.size_bytes


def digest_of(path: Path, files: Iterable[Path] = ()) -> str:
    """Return the digest, 64 hex digits: in the folder, `sha256sum NAMES | sha256sum`, with sorted names."""
    folder = path.parent
    return combine_named_digests({file.relative_to(folder).as_posix(): sha256_of(file) for file in (path, *files)})


PYTHON = Runtime(
    name="python",
    package="python_model",
    opener="python_model.predictor",
    platform="python",
    artifact="a Python file",
    suffix=".py",
    model_file="",
    inspect=inspect,
    digest_of=digest_of,
    layer=Layer(
        lock=Path(__file__).with_name("python_layer.lock"),
        left_out=(),
        unzipped_bytes={"x86_64": 43_000_000, "arm64": 37_000_000},
        own_bytes=150_000_000,  # scikit-learn with scipy 140 MB
    ),
    takes_folder=True,
    declares_signature=True,
    runs_own_code=True,
)
