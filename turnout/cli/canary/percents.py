"""Percents as people write them: digits and at most one point.

`float()` also takes `5_0`, `nan` and the digits of other scripts, and a share is no place for a surprise.
"""

from __future__ import annotations

import re

import typer

_PERCENT = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_percent(text: str) -> float:
    """Return a share of 0 to 100; an option's value or its default."""
    percent = find_percent(str(text))
    if percent is None:
        raise typer.BadParameter(f"{text!r} is not a number from 0 to 100.")
    return percent


def find_percent(text: str) -> float | None:
    """Return the share that a text says; None where it says none."""
    percent = float(text) if _PERCENT.fullmatch(text) else None
    return None if percent is None or percent > 100 else percent
