"""A group of commands whose help is there at once.

Comes in: nothing. Goes out: `Group`, for the commands of `turnout` and those of `turnout canary`.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Group(TyperGroup):
    """A group of commands."""

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own copy of click's Context
        """The group's own --help. Absent it is None, which typer would coerce, and import pydantic for it: 80 ms."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option
