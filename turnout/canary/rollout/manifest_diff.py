"""The unified diff of an edit of models.yaml."""

from __future__ import annotations

import difflib

CONTEXT_LINES = 2

MOST_LINES = 200
"""Most lines of a diff that is recorded. An edit of a canary changes only a few."""

MOST_LINE_CHARACTERS = 500


def make_diff(before: str, after: str, name: str) -> str:
    """The unified diff of a file's text; empty if nothing changes.

    Args:
        before: the old text.
        after: the new text.
        name: the file's name.
    """
    rows = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="", n=CONTEXT_LINES)
    lines = [line if len(line) <= MOST_LINE_CHARACTERS else f"{line[:MOST_LINE_CHARACTERS]}..." for line in rows]
    left_out = len(lines) - MOST_LINES
    shown = lines if left_out <= 0 else [*lines[:MOST_LINES], f"... {left_out} more lines"]
    return "\n".join(shown)
