"""docs/cli.md: every command's `--help` on one page. `python -m turnout.cli.reference > docs/cli.md` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

WIDTH = 100


def render_reference() -> str:
    """Return the whole page."""
    from turnout.cli.app import make_app

    group = get_command(make_app())
    assert isinstance(group, TyperGroup)
    settings = {**group.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    root = group.context_class(group, info_name="turnout", **settings)
    parts = [
        "<!-- Made by `make generated` from each command's --help: edit turnout/cli/, not this page. -->",
        "# The command line",
        fenced(group.get_help(root)),
    ]
    parts += pages_of(group, root)
    return "\n\n".join(parts) + "\n"


def pages_of(group: TyperGroup, parent: Any) -> Iterator[str]:
    """Yield heading and help of every command of a group and its nested groups."""
    for name in group.list_commands(parent):
        command = group.commands[name]
        context = command.context_class(command, info_name=name, parent=parent)
        yield f"## {context.command_path}"
        yield fenced(command.get_help(context))
        if isinstance(command, TyperGroup):
            yield from pages_of(command, context)


def fenced(text: str) -> str:
    """Return a block that Markdown does not interpret."""
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"```text\n{lines}\n```"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
