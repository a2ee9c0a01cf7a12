"""How the words and values of the user's files are quoted back in messages.

Comes in: values out of a manifest. Goes out: short texts on one line. Called by the manifest's checks and its editor.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from turnout.yaml_text.reader import Ambiguous, resolve

_LONGEST = 60
_PLAIN = re.compile(r"[A-Za-z0-9][\w./@+-]*( [\w./@+-]+)*\.?")


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """`: did you mean `v2`?`, for the end of a message, or nothing where no known word is near."""
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(str(word)[:64].casefold(), by_folded, n=1, cutoff=0.5)
    return f": did you mean `{by_folded[close[0]]}`?" if close else ""


def show(value: Any, written: str | None = None) -> str:
    """A value as its author knows it, cut where it is long; `written` is a number's own spelling."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case Ambiguous(text):
            return f"{shorten(text)}, which not every YAML reader takes for the same thing"
        case str():
            return f'"{shorten(value)}"'
    return shorten(written or json.dumps(value))


def shorten(text: str) -> str:
    """The text on one line, at most 60 characters."""
    line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[: _LONGEST + 1])
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def listed(words: Iterable[str], limit: int = 8) -> str:
    """`v1, v2`; a long list is cut."""
    all_words = list(words)
    rest = len(all_words) - limit
    return ", ".join(all_words[:limit]) + (f" and {rest} more" if rest > 0 else "")


def flow(value: Any) -> str:
    """A value in YAML's one-line form, `{percent: 10, serve: {iris: v2}}`, quoted where it would be read otherwise."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and resolve(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
