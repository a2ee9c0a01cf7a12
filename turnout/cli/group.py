"""`Group`: the base of the command groups, such as `turnout canary`."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from turnout.cli.output import say
from turnout.cli.quick_values import read_quickly

COMPLETION = frozenset({"install_completion", "show_completion"})


class Group(TyperGroup):
    """A group of commands; without arguments it prints its help."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own copy
        """Return the arguments for the commands."""
        if not args and not ctx.resilient_parsing:
            say(ctx.get_help())
            ctx.exit(0)
        for parameter in self.params:
            if parameter.name in COMPLETION and getattr(parameter, "is_flag", False):
                parameter.default = False  # None would make typer import pydantic, as for --help below
        return super().parse_args(ctx, args)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # typer's own copy
        """Return the command with this name, prepared to read its options without pydantic."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            read_quickly(command)
            option = command.get_help_option(ctx)
            if option is not None:
                option.default = False  # as below
        return command

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own copy of click's Context
        """Return the group's own --help option.

        Without it typer would coerce None, and import pydantic for it: 80 ms.
        """
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option
