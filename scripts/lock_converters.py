"""Pins the converters' requirements: `python scripts/lock_converters.py [NAME ...]`, with uv on the path or installed.

Each turnout/conversion/converters/NAME.in becomes NAME.lock, with hashes, for every Python and platform.
"""

from __future__ import annotations

import sys

from turnout.conversion.registry import LOCKS
from turnout.packaging.layer import run_uv

COMPILE = ("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes")
PLAIN = ("--no-strip-extras", "--no-annotate", "--no-header")


def main(names: list[str]) -> None:
    """Pin the named ones, or all."""
    for given in sorted(LOCKS.glob("*.in")):
        if not names or given.stem in names:
            target = given.with_suffix(".lock")
            run_uv([*COMPILE, *PLAIN, "--upgrade", str(given), "-o", str(target)], cwd=LOCKS)
            print(f"Wrote {target.name}.")


if __name__ == "__main__":
    main(sys.argv[1:])
