"""The converters' environments: made by uv from pinned requirements, once per user, then used offline.

An environment's folder is named by a digest of its lock and of the Python that runs it. It is made under a temporary
name while a lock is held, and then renamed, so it is complete or missing, however its process ends.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from turnout.conversion.errors import ConversionError
from turnout.conversion.registry import LOCKS
from turnout.packaging.layer import LayerError, find_uv, run_uv
from turnout.packaging.unpack import locked

CACHE_VARIABLE = "TURNOUT_CACHE_DIR"


def cache_folder() -> Path:
    """Return the folder of environments: TURNOUT_CACHE_DIR, or `turnout` in the user's cache folder."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "turnout").absolute()


def environment_folder(name: str) -> Path:
    """Return the folder of the environment of a lock, which may not exist yet."""
    wants = (lock_path(name).read_bytes(), sys.version.encode(), platform.machine().encode())
    digest = hashlib.sha256(b"\0".join(wants)).hexdigest()
    return cache_folder() / "converters" / f"{name}-{digest[:16]}"


def lock_path(name: str) -> Path:
    """Return the file with the pinned requirements of an environment."""
    return LOCKS / f"{name}.lock"


def find_environment(name: str, remark: Callable[[str], None]) -> Path:
    """Return the Python of an environment, which is made if it is missing.

    Args:
        name: name of its lock.
        remark: called with a message for the user before each long step.

    Raises:
        ConversionError: it cannot be made.
    """
    folder = environment_folder(name)
    python = folder / "bin" / "python"
    if python.exists():
        return python
    try:
        find_uv()
    except LayerError as error:
        raise ConversionError(
            "converting a model needs uv, which is not installed",
            "The extra turnout[build] brings it; so does: pip install 'uv>=0.5'",
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if not python.exists():
            packages = sum(line[:1].isalnum() for line in lock_path(name).read_text().splitlines())
            remark(f"installing up to {packages} packages for {name} models into {folder}, once")
            _make(name, folder)
    return python


def _make(name: str, folder: Path) -> None:
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process: this process holds the lock
    try:
        run_uv(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(unfinished)])
        target = ["--python", str(unfinished / "bin" / "python"), "--require-hashes", "--only-binary", ":all:"]
        run_uv(["pip", "sync", "--quiet", "--compile-bytecode", *target, str(lock_path(name))])
        unfinished.rename(folder)
    except LayerError as error:
        raise ConversionError(
            f"the packages that convert {name} models cannot be installed: {_last_line(str(error))}",
            "They are installed once, from the package index; later conversions are offline. "
            "UV_DEFAULT_INDEX names another index.",
            code=1,
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip()[:300]
