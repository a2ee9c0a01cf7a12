"""Quotes values of a YAML text: in messages, and in edited text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from turnout.wording import shorten
from turnout.yaml_text.reader import Ambiguous, resolve

_PLAIN = re.compile(r"[A-Za-z0-9][\w./@+-]*( [\w./@+-]+)*\.?")


def show(value: Any, written: str | None = None) -> str:
    """Return a value in its author's form, shortened if it is long; `written` is a number's own form."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case Ambiguous(text):
            return f"{shorten(text)}, which YAML 1.1 and 1.2 parse differently"
        case str():
            return f'"{shorten(value)}"'
    return shorten(written or json.dumps(value))


def flow(value: Any) -> str:
    """Return a value in YAML's one-line form, `{percent: 10, serve: {iris: v2}}`, quoted if necessary."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and resolve(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
