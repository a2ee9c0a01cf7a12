"""Pins the converters' requirements: `make lock-converters`, which runs `python scripts/lock_converters.py [NAME ...]`.

Each turnout/conversion/converters/NAME.in becomes NAME.lock, with hashes, for every Python and platform. So does each
file of tests/conversion, whose environments only tests use. NAME.excludes lists dependencies that are left out.
"""

from __future__ import annotations

import sys

from turnout.conversion.registry import LOCKS
from turnout.packaging.layer import run_uv

COMPILE = ("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes")
ROOT = LOCKS.parents[2]
FOLDERS = (LOCKS, ROOT / "tests" / "conversion")
PLAIN = ("--no-strip-extras", "--no-annotate", "--no-header")


def main(names: list[str]) -> None:
    """Pin the requirements of the named converters, or of all."""
    known = {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.in"))}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"Unknown converter: {', '.join(unknown)}. Known: {', '.join(known)}.")
    for name in names or known:
        target, excludes = (known[name].with_suffix(suffix) for suffix in (".lock", ".excludes"))
        without = ["--excludes", excludes.name] if excludes.exists() else []
        run_uv([*COMPILE, *PLAIN, *without, "--upgrade", known[name].name, "-o", target.name], cwd=known[name].parent)
        print(f"Wrote {target.relative_to(ROOT)}.")


if __name__ == "__main__":
    main(sys.argv[1:])
