"""Makes a runtime's layer: the packages for inference on Lambda's platform, and the versions' `requirements`.

Parts that inference does not need are left out (tests/packaging/ runs every sample without them): numpy's tests,
headers and compilers, and the patterns in the runtime's row.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from turnout.extras import MissingPackageError
from turnout.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES
from turnout.runtimes.runtime import Layer
from turnout.system.processes import run_child

PLATFORMS: Mapping[str, str] = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
"""Lambda's architectures as uv names the platforms; Amazon Linux 2023 has glibc 2.34."""

HERE = "here"
"""The name of this machine's own platform and Python, used by isolated functions."""

LEFT_OUT = (
    "bin/*",
    "*/__pycache__/*",
    "*.pyi",
    "*.pxd",
    "*.pyx",
    "*/tests/*",
    "*/include/*",
    "*.a",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "simdjson/*.cpp",
    "simdjson/*.h",
    "numpy/distutils/*",
    "numpy/_pyinstaller/*",
)
"""Patterns of files that no inference reads, relative to the layer's site-packages.

All public modules of numpy stay: SciPy runs `from numpy import *`, which imports them.
"""


class LayerError(Exception):
    """A layer cannot be made: no wheel for the platform, or no reachable index; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """The inputs that determine a layer's contents.

    Args:
        architecture: `arm64`, `x86_64`, or `here`.
        python: `3.13`; ignored for `here`.
        requirements: the versions' requirements, PEP 508, sorted.
        runtime: a key of `RUNTIMES`.
    """

    architecture: str
    python: str = "3.13"
    requirements: tuple[str, ...] = ()
    runtime: str = DEFAULT_RUNTIME

    @property
    def layer(self) -> Layer:
        """Return the layer with only the runtime's requirements."""
        return RUNTIMES[self.runtime].layer


_FINDING = threading.Lock()
"""`find_uv_bin` uses sysconfig, whose first use in two threads at once raises an AttributeError in one of them."""


def find_uv() -> str:
    """Return the uv that is installed beside Turnout, or the one on the PATH."""
    try:
        from uv import find_uv_bin

        with _FINDING:
            return find_uv_bin()
    except (ImportError, FileNotFoundError):
        program = shutil.which("uv")
        if not program:
            missing = MissingPackageError("uv", "resolving packages")
            raise LayerError(f"{missing}. {missing.hint}") from None
        return program


def find_python(version: str) -> Path | None:
    """Return this machine's interpreter of that version, to compile bytecode with; None if there is none."""
    process = run_uv(["python", "find", "--no-project", "--system", version], check=False)
    path = Path(process.stdout.strip()) if process.returncode == 0 else None
    return path if path and path.exists() else None


def resolve_requirements(spec: LayerSpec, cwd: Path) -> tuple[str, ...]:
    """Return the requirements and their dependencies, pinned: `pillow==11.0.0`. Pins of the runtime lock stay."""
    if not spec.requirements:
        return ()
    arguments = ["pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--constraint", str(spec.layer.lock)]
    process = run_uv([*arguments, *_platform(spec)], stdin="\n".join(spec.requirements), cwd=cwd)
    lines = (line.strip() for line in process.stdout.splitlines())
    return tuple(sorted(line for line in lines if line and not line.startswith("#")))


def install_layer(spec: LayerSpec, pinned: Sequence[str], target: Path) -> None:
    """Unpack the layer's wheels into `target`; nothing is compiled or built from source."""
    arguments = ["pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(target)]
    run_uv([*arguments, *_platform(spec), "--require-hashes", "-r", str(spec.layer.lock)])
    if pinned:
        run_uv([*arguments, *_platform(spec), *pinned])


def layer_files(spec: LayerSpec, site: Path) -> dict[str, Path]:
    """Return archive name -> file for the files of an installed layer that are kept."""
    left_out = left_out_of(spec)
    return {f"python/{name}": path for name, path in sorted(_files_below(site)) if not _matches(name, left_out)}


def remove_left_out(spec: LayerSpec, site: Path) -> None:
    """Delete what a layer does not contain from an installed one, with folders that become empty."""
    patterns = left_out_of(spec)
    for name, path in [*_files_below(site)]:
        if _matches(name, patterns):
            path.unlink()
    for folder in sorted((path for path in site.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def left_out_of(spec: LayerSpec) -> tuple[str, ...]:
    """Return the patterns of files that a layer does not contain."""
    return (*LEFT_OUT, *spec.layer.left_out)


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _platform(spec: LayerSpec) -> list[str]:
    if spec.architecture == HERE:
        return ["--python", sys.executable]
    return ["--python-platform", PLATFORMS[spec.architecture], "--python-version", spec.python]


def run_uv(
    arguments: Sequence[str],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run uv without letting it download an interpreter.

    Args:
        arguments: its arguments.
        stdin: its standard input.
        cwd: its working directory.
        check: whether a failure raises an error.
        on_line: called with each line of its standard error at once.

    Raises:
        LayerError: uv failed; only with `check`.
        OSError: the disk is full: `ENOSPC`.
    """
    variables = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    done = run_child([find_uv(), *arguments], stdin=stdin, cwd=cwd, env=variables, on_line=on_line)
    if check and done.returncode != 0:
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise LayerError(done.stderr.strip() or f"uv {arguments[0]} failed with exit code {done.returncode}")
    return done
