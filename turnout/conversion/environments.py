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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from turnout.conversion.errors import ConversionError
from turnout.conversion.registry import LOCKS
from turnout.packaging.layer import LayerError, find_uv, run_uv
from turnout.packaging.unpack import locked

CACHE_VARIABLE = "TURNOUT_CACHE_DIR"

BACKEND = "UV_TORCH_BACKEND"
"""uv reads it: `cpu` for PyTorch's builds without CUDA, which PyTorch's own index has and PyPI does not."""

TORCH = "torch"

GPU_PREFIXES = ("cuda-", "nvidia-", "triton")
"""Packages that PyPI's torch for Linux loads, also on the CPU. A build of `BACKEND` brings its own."""

SIZES: Mapping[str, str] = {
    "keras": "330 MB to download and 1.6 GB on the disk",
    TORCH: f"with CUDA, as on Linux, 2.5 GB to download and 4.3 GB on the disk; {BACKEND}=cpu is smaller",
}
"""Sizes of large environments (x86_64 Linux), for the message before the download."""


def cache_folder() -> Path:
    """Return the folder of environments: TURNOUT_CACHE_DIR, or `turnout` in the user's cache folder."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "turnout").absolute()


def environment_folder(name: str) -> Path:
    """Return the folder of the environment of a lock, which may not exist yet."""
    wants = [lock_path(name).read_bytes(), sys.version.encode(), platform.machine().encode()]
    wants += [backend.encode()] if (backend := _backend(name)) else []
    digest = hashlib.sha256(b"\0".join(wants)).hexdigest()
    return cache_folder() / "converters" / f"{name}-{digest[:16]}"


def _backend(name: str) -> str:
    """Return the build of PyTorch that the user chose; empty for PyPI's, and for other environments."""
    return os.environ.get(BACKEND, "") if name == TORCH else ""


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
            "Install the extra turnout[build], or run: pip install 'uv>=0.5'",
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if not python.exists():
            remark(_announcement(name, folder))
            _make(name, folder, remark)
    return python


def _announcement(name: str, folder: Path) -> str:
    if backend := _backend(name):
        return f"installing PyTorch for {backend} ({BACKEND}) into {folder}, once"
    packages = len(split_lock(lock_path(name).read_text()))
    size = f" ({SIZES[name]})" if name in SIZES else ""
    return f"installing up to {packages} packages for {name} models{size} into {folder}, once"


def split_lock(lock: str) -> dict[str, str]:
    """Return the requirements of a lock with their hashes, by the text before the hashes."""
    entries: dict[str, str] = {}
    for line in lock.splitlines(keepends=True):
        if line[:1].isalnum():
            entry = line.rstrip().removesuffix("\\").rstrip()
            entries[entry] = line
        elif line[:1].isspace():
            entries[entry] += line
    return entries


def _make(name: str, folder: Path, remark: Callable[[str], None]) -> None:
    def pass_on(line: str) -> None:
        if line.startswith("Downloading "):  # uv writes this line for large packages
            remark(line[:1].lower() + line[1:].strip())

    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process: this process holds the lock
    try:
        run_uv(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(unfinished)])
        target = ["--python", str(unfinished / "bin" / "python"), "--require-hashes", "--only-binary", ":all:"]
        if _backend(name):
            _install_backend(name, unfinished, target, pass_on)
        else:
            run_uv(["pip", "sync", "--compile-bytecode", *target, str(lock_path(name))], on_line=pass_on)
        unfinished.rename(folder)
    except LayerError as error:
        raise ConversionError(
            f"the packages that convert {name} models cannot be installed: {_last_line(str(error))}",
            f"{BACKEND} needs PyTorch's own index. Without this variable, the build of the package index is installed."
            if _backend(name)
            else "They are installed once, from the package index; later conversions are offline. "
            "UV_DEFAULT_INDEX names another index.",
            code=1,
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _install_backend(name: str, folder: Path, target: Sequence[str], pass_on: Callable[[str], None]) -> None:
    """Install the build of PyTorch that uv chooses for `BACKEND`, in the lock's release, and the other packages.

    The lock has the hashes of PyPI's files, so PyTorch and what only its build needs come without hashes.
    """
    entries = split_lock(lock_path(name).read_text())
    (release,) = (entry for entry in entries if entry.startswith(f"{TORCH}=="))
    others = [text for entry, text in entries.items() if entry != release and not entry.startswith(GPU_PREFIXES)]
    lock = folder / "others.lock"
    lock.write_text("".join(others))
    run_uv(["pip", "sync", "--compile-bytecode", *target, str(lock)], on_line=pass_on)
    plain = [argument for argument in target if argument != "--require-hashes"]
    run_uv(["pip", "install", "--compile-bytecode", *plain, release], on_line=pass_on)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip()[:300]
