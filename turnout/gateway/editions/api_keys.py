"""API keys of stages that require one, on this machine: made once, then kept next to the manifest."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from turnout.problems import Problem, ProblemsError
from turnout.system.files import PRIVATE, write_whole

log = logging.getLogger(__name__)

ALPHABET = string.ascii_letters + string.digits
KEY_LENGTH = 40
"""AWS makes keys of 40 letters and digits, and accepts keys of 20 to 128 characters."""


def load_api_keys(path: Path, stages: Iterable[str]) -> dict[str, str]:
    """Return stage -> key: those in the file `path`, and new ones, which are added to it.

    Two servers that start at once use the same keys. If the file is not writable, new keys are valid for this run only.
    Raises ProblemsError if the file exists and is not `{stage: key}`.
    """
    wanted = tuple(dict.fromkeys(stages))
    if not wanted:
        return {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_folder(path.parent):
            known = _read_keys(path)
            missing = {stage: make_key() for stage in wanted if stage not in known}
            if missing:
                _write_keys(path, {**known, **missing})
    except OSError as error:
        log.warning("%s cannot be written (%s): new API keys are valid for this run only", path, error.strerror)
        known = _read_keys(path)
        missing = {stage: make_key() for stage in wanted if stage not in known}
    keys = {**known, **missing}
    return {stage: keys[stage] for stage in wanted}


def make_key() -> str:
    """Return a new key."""
    return "".join(secrets.choice(ALPHABET) for _ in range(KEY_LENGTH))


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a lock for one process at a time; it is on the folder itself, so that no lock file is left behind."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read_keys(path: Path) -> dict[str, str]:
    """Return the file's contents, empty if there is no file."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    if not text.strip(b"\0 \r\n\t"):
        return {}  # a machine crash may leave an empty file; no key from it was handed out
    try:
        keys = json.loads(text)
    except ValueError as error:
        raise _problem(path, f"is not JSON: {error}") from error
    if not isinstance(keys, dict):
        raise _problem(path, "must be an object, a key per stage")
    for stage, key in keys.items():
        if not (isinstance(key, str) and 20 <= len(key) <= 128 and key.isascii() and key.isprintable()):
            raise _problem(path, f"the key of stage {stage!r} must be a string of 20-128 ASCII characters")
    return keys


def _problem(path: Path, message: str) -> ProblemsError:
    problem = Problem(message, source=str(path), hint="Repair or delete it: new keys are created at the next start.")
    return ProblemsError((problem,))


def _write_keys(path: Path, keys: Mapping[str, str]) -> None:
    """Replace the file. Only its owner may read it."""
    write_whole(path, f"{json.dumps(dict(keys), indent=2)}\n".encode(), PRIVATE)
