"""Texts of others, shortened where a reader expects an end."""

from __future__ import annotations

import re

_END = re.compile(r"[.!?](?=\s)")


def shorten_text(text: str, most: int) -> str:
    """The text in one line; of a long one the sentences that fit, and of a first one that does not fit the words."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    ends = [match.end() for match in _END.finditer(line, 0, most)]
    if ends:
        return f"{line[: ends[-1]]} …"
    return f"{line[:most].rpartition(' ')[0] or line[:most]} …"
