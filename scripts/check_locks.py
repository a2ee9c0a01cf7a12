"""Installs the locks as on a later day: from an index with newer releases, with the oldest and newest pip.

A lock installs on the day it is made. Later the index has newer releases of the pinned packages, and then pip before 24
rejects `coverage[toml]>=7` of a dependency if the lock says `coverage==7.17.3` without the extra. So one package of
each lock is first pinned below the newest release, unless the index already has a newer one. Nothing is installed
(`--dry-run`): pip resolves, downloads and checks every hash.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements-dev.lock", "requirements.lock")
OLDEST_PIP = "23.2.1"
"""The pip of `python -m venv` in Python 3.11.7."""

_ROW = re.compile(r"^(?P<name>[a-z0-9-]+)(?P<extras>\[[^\]]+\])?==(?P<version>\S+).*?\n(?:    .*\n)+", re.MULTILINE)


class LockError(Exception):
    """A lock does not install; the message is the tool's output."""


def main() -> int:
    """Check every lock with both pips; return the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pips = {"oldest": f"pip=={OLDEST_PIP}", "newest": "pip"}
        for name, requirement in pips.items():
            run_uv("pip", "install", "--quiet", "--target", str(folder / name), requirement)
        for lock in LOCKS:
            try:
                text, package = make_older((ROOT / lock).read_text())
                (folder / lock).write_text(text)
                for name in pips:
                    version = try_pip(folder / name, folder / lock)
                    print(f"{lock} with {package} behind the index: pip {version} installs it", flush=True)
            except LockError as error:
                print(f"{lock}: {error}", file=sys.stderr)
                return 1
    return 0


def make_older(lock: str) -> tuple[str, str]:
    """Return the lock with one package pinned to an older release, and that package.

    Packages with extras are tried first: only they have ever failed.
    """
    for match in sorted(_ROW.finditer(lock), key=lambda match: match["extras"] is None):
        newest = newest_row(match["name"])
        if newest is None:
            continue
        if newest["version"] != match["version"]:
            return lock, match["name"]
        older = newest_row(f"{match['name']}{match['extras'] or ''}<{newest['version']}")
        if older is None:
            continue
        text = lock[: match.start()] + older[0] + lock[match.end() :]
        if has_solution(text):
            return text, match["name"]
    raise LockError("no package can be pinned below its newest release")


def newest_row(requirement: str) -> re.Match[str] | None:
    """Return the lock's row for the newest release that a requirement allows; None if there is none."""
    options = ["--quiet", "--no-deps", "--no-header", "--no-annotate", "--generate-hashes", "--no-strip-extras"]
    done = run_uv("pip", "compile", "-", *options, stdin=requirement, check=False)
    return _ROW.search(done.stdout) if done.returncode == 0 else None


def has_solution(lock: str) -> bool:
    """Whether the rows of a lock are consistent."""
    return run_uv("pip", "compile", "-", "--quiet", stdin=lock, check=False).returncode == 0


def try_pip(pip: Path, lock: Path) -> str:
    """Let the pip in a folder resolve a lock, download it and check its hashes; return pip's version."""
    environment = {**os.environ, "PYTHONPATH": str(pip), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    python = [sys.executable, "-m", "pip"]
    install = ["install", "--quiet", "--dry-run", "--ignore-installed", "--require-hashes", "-r", str(lock)]
    done = subprocess.run([*python, *install], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LockError(f"pip of {pip.name} release does not install it:\n{done.stderr}")
    version = subprocess.run([*python, "--version"], env=environment, capture_output=True, text=True, check=True)
    return version.stdout.split()[1]


def run_uv(*arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run uv for this interpreter."""
    environment = {**os.environ, "UV_NO_PROGRESS": "1", "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run(
        [find_uv_bin(), *arguments], env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    if check and done.returncode != 0:
        raise LockError(done.stderr)
    return done


if __name__ == "__main__":
    sys.exit(main())
