"""Makes HTML from values. Everything that is not `Html` is escaped, so no name or description can become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import TypeAlias

Child: TypeAlias = "Html | str | int | float | Iterable[Child] | None"

_CODE = re.compile(r"`([^`\n]+)`")
_VOID = frozenset({"br", "hr", "input", "link", "meta"})


class Html(str):
    """Markup that is sent unchanged."""

    __slots__ = ()


def tag(name: str, /, *children: Child, **attributes: str | int | None) -> Html:
    """Return one element.

    Args:
        name: the tag's name.
        children: markup, or text, which is escaped; iterables are flattened, and None is left out.
        attributes: `class_` is `class`, `aria_label` is `aria-label`. None and False leave an attribute out, True has
            no value.
    """
    written = "".join(
        _attribute(key, value) for key, value in attributes.items() if not (value is None or value is False)
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Return the children one after another, with texts escaped."""
    return Html("".join(map(_child, children)))


def prose(text: str) -> Html:
    """Return a description as paragraphs separated by empty lines, with text in backticks as code."""
    return join(tag("p", rich(part)) for part in re.split(r"\n\s*\n", text.strip()) if part)


def rich(text: str) -> Html:
    """Return text in which backticks mark code."""
    parts = _CODE.split(text)
    return join(tag("code", part) if number % 2 else part for number, part in enumerate(parts))


def table(headings: Iterable[str], rows: Iterable[Iterable[Child]], caption: str) -> Html:
    """Return a table that scrolls separately on narrow pages; the first cell of a row is its heading."""
    head = tag("tr", (tag("th", heading, scope="col") for heading in headings))
    body = (
        tag(
            "tr",
            (tag("td" if number else "th", cell, scope=None if number else "row") for number, cell in enumerate(row)),
        )
        for row in rows
    )
    return tag(
        "div",
        tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body)),
        class_="wide",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def _cell(number: int, cell: Child) -> Html:
    return tag("td", cell) if number else tag("th", cell, scope="row")


def facts(rows: Mapping[str, Child]) -> Html:
    """Return a list of names and values; empty ones are left out."""
    return tag(
        "dl", (tag("div", tag("dt", name), tag("dd", value)) for name, value in rows.items() if value), class_="facts"
    )


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return escape(child)
    if isinstance(child, int | float):
        return str(child)
    return join(child)


def _attribute(key: str, value: str | int | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
