"""Checks that a tag names the version in the code, and that the changelog has a dated section for it.

A wheel cannot be replaced on the index, so a wrong version is rejected before it is built.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check_release(tag: str, module: str, changelog: str) -> list[str]:
    """Return the problems of a tag as sentences.

    Args:
        tag: `v1.2.3`.
        module: the text of turnout/__init__.py.
        changelog: the text of CHANGELOG.md.
    """
    match = re.search(r'^__version__ = "([^"]+)"$', module, re.MULTILINE)
    if not match:
        return ["turnout/__init__.py: no line `__version__ = ...`. Add it"]
    version, problems = match[1], []
    if tag != f"v{version}":
        problems.append(
            f"tag {tag!r}: turnout/__init__.py has version {version}. Tag v{version}, or change the version"
        )
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        problems.append(f"CHANGELOG.md: no section for {version}. Add `## [{version}] - YYYY-MM-DD` below Unreleased")
    return problems


def main(arguments: list[str]) -> int:
    """Print what is wrong with the tag; return the exit code."""
    if len(arguments) != 1 or not arguments[0]:
        print("usage: make check-release TAG=v1.2.3", file=sys.stderr)
        return 2
    problems = check_release(
        arguments[0], (ROOT / "turnout" / "__init__.py").read_text(), (ROOT / "CHANGELOG.md").read_text()
    )
    for problem in problems:
        print(f"Error: {problem}.", file=sys.stderr)
    if not problems:
        print(f"Checked {arguments[0]}: the version and the changelog agree.")
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
