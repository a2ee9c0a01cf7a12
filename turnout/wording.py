"""Lists, shortens and counts things for messages, each on one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

_LONGEST = 60


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Return `: did you mean `v2`?` for the end of a message, or nothing if no known word is similar."""
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(str(word)[:64].casefold(), by_folded, n=1, cutoff=0.5)
    return f": did you mean `{by_folded[close[0]]}`?" if close else ""


def shorten(text: str) -> str:
    """Return the text on one line, at most 60 characters."""
    line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[: _LONGEST + 1])
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def listed(words: Iterable[str], limit: int = 8) -> str:
    """Return `v1, v2`; a long list is cut."""
    all_words = list(words)
    rest = len(all_words) - limit
    return ", ".join(all_words[:limit]) + (f" and {rest} more" if rest > 0 else "")


def printable(text: str) -> str:
    """Return the text on one line, with control and formatting characters escaped.

    Names, labels and errors come from models and servers and must not control the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """Return the same for a text of several lines."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    r"""Return JSON with an equal meaning, in which characters that could control a terminal are `\uNNNN`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _json_escape(char) for char in text)


def _json_escape(char: str) -> str:
    # Between tokens JSON allows a tab and a carriage return; inside strings they are already escaped.
    return " " if char in "\t\r" else json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"


def size_text(size_bytes: float) -> str:
    """Return `812 B`, `3.4 KB` or `250.0 MB`."""
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} GB"
