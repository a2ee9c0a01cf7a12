"""The model files of a pool's versions: fetched by digest when a version is loaded, deleted when it is unloaded."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from .runtime import ModelError
from .stored_model import StoredFile, fetch_files

LOCATION = "TURNOUT_MODELS"
"""The function's variable with the place of its models, each in a folder named by its digest: `s3://bucket/models`."""


def fetch_version(
    files: Sequence[StoredFile], folder: Path, location: str, sha256: str, environ: Mapping[str, str]
) -> None:
    """Put every file of a version's model into `folder`.

    Args:
        files: all of them.
        folder: made where it is missing.
        location: `s3://bucket/folder`, or a folder of this machine; empty for the pool's own place.
        sha256: digest of the model, the name of its folder in the pool's own place.
        environ: the function's.

    Raises:
        ModelError: a file is missing, cannot be read, or is not the one that was deployed.
    """
    if not location:
        root = environ.get(LOCATION)
        if not root:
            raise ModelError(f"{LOCATION} does not say where the pool's models are")
        location = f"{root.rstrip('/')}/{sha256}"
    if location.startswith("s3://"):
        fetch_files(location, files, folder, environ)
    else:
        _copy(files, Path(location), folder)


def _copy(files: Sequence[StoredFile], source: Path, folder: Path) -> None:
    """Copy the files, because a project's files may be changed by others."""
    for file in files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source / file.name, target)
        except OSError as error:
            raise ModelError(f"{file.name} cannot be read: {error.strerror or error}") from error
        with target.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            message = f"{file.name} has changed since models.yaml was read: its sha256 is {digest}, not {file.sha256}"
            raise ModelError(f"{message}: reload with SIGHUP, a restart or --watch")
