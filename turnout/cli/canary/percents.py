"""Percentages on the command line as users write them: digits and at most one point."""

from __future__ import annotations

import typer


def parse_percent(text: str) -> float:
    """Return a share of 0 to 100; an option's value or its default."""
    from turnout.canary.run_settings import find_percent

    percent = find_percent(str(text))
    if percent is None:
        raise typer.BadParameter(f"{text!r} is not a number from 0 to 100.")
    return percent
