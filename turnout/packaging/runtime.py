"""Installs Lambda's runtime for this machine with uv from its lock, separate from all other environments."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from pathlib import Path

from turnout.packaging.layer import run_uv
from turnout.packaging.unpack import make_folder

RIC_LOCK = Path(__file__).with_name("ric.lock")


def install_runtime(parent: Path) -> Path:
    """Return the folder in `parent` with the runtime for this Python; it is installed once, and then used offline.

    Raises:
        LayerError: uv cannot resolve it; the message contains uv's reason.
    """
    wants = (RIC_LOCK.read_bytes(), sys.version.encode(), sysconfig.get_platform().encode())
    digest = hashlib.sha256(b"\0".join(wants)).hexdigest()

    def write(folder: Path) -> None:
        arguments = ["pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--compile-bytecode"]
        where = ["--target", str(folder), "--python", sys.executable]
        run_uv([*arguments, *where, "--require-hashes", "-r", str(RIC_LOCK)])

    return make_folder(parent / digest[:16], write)
