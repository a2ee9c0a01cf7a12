"""Shortens texts of other programs."""

from __future__ import annotations

import re

_END = re.compile(r"[.!?](?=\s)")


def shorten_text(text: str, most: int) -> str:
    """Return the text on one line.

    A long text is cut to the sentences that fit, or else to the words of the first sentence that fit.
    """
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    ends = [match.end() for match in _END.finditer(line, 0, most)]
    if ends:
        return f"{line[: ends[-1]]} …"
    return f"{line[:most].rpartition(' ')[0] or line[:most]} …"
