"""Compiles bytecode of the target's Python: on Lambda's read-only disk, each cold start would compile again.

Invalidation is `unchecked-hash` (PEP 552): the file has no times, and imports do not look at the source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from turnout.system.processes import run_child

COMPILE = """
import importlib.util, json, pathlib, py_compile, sys
root, target = sys.argv[1], pathlib.Path(sys.argv[2])
for name, source in json.load(sys.stdin).items():
    try:
        cached = importlib.util.cache_from_source(name)
        py_compile.compile(source, cfile=target / cached, dfile=f"{root}/{name}", doraise=True,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (py_compile.PyCompileError, SyntaxError):
        pass  # a wheel may hold files for other versions; they stay as source
"""


def compile_bytecode(python: Path, sources: Mapping[str, Path], root: str, target: Path) -> dict[str, Path]:
    """Compile `sources` (archive name -> file) with `python` into `target`.

    Args:
        python: the interpreter to compile with.
        sources: files to compile; names that do not end in `.py` are skipped.
        root: directory of the archive at run time, for tracebacks: `/opt` for a layer, `/var/task` for a function.
        target: an empty folder for the `.pyc` files.

    Returns:
        Archive name -> `.pyc` file; sources that this Python cannot compile are left out.
    """
    wanted = {name: str(path) for name, path in sorted(sources.items()) if name.endswith(".py")}
    done = run_child([str(python), "-I", "-S", "-c", COMPILE, root, str(target)], stdin=json.dumps(wanted))
    if done.returncode != 0:
        raise RuntimeError(f"{python} could not compile: {done.stderr.strip()}")
    return {path.relative_to(target).as_posix(): path for path in sorted(target.rglob("*.pyc"))}


@cache
def python_version(python: Path) -> str:
    """Return the full version, `3.13.0`: bytecode of another patch release may differ."""
    code = "import platform; print(platform.python_version())"
    done = run_child([str(python), "-I", "-S", "-c", code])
    if done.returncode != 0:
        raise RuntimeError(f"{python} could not report its version: {done.stderr.strip()}")
    return done.stdout.strip()
