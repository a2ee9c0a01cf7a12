"""docs/cli.md: every command's `--help` on one page. `python -m turnout.cli.reference > docs/cli.md` writes it.

Comes in: the commands. Goes out: Markdown. Called by `make generated` and by the test that the page is up to date.
"""

from __future__ import annotations

import sys

from typer.core import TyperGroup
from typer.main import get_command

WIDTH = 100


def render_reference() -> str:
    """The whole page."""
    from turnout.cli.app import app

    group = get_command(app)
    assert isinstance(group, TyperGroup)
    settings = {**group.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    root = group.context_class(group, info_name="turnout", **settings)
    parts = [
        "<!-- Made by `make generated` from each command's --help: edit turnout/cli/, not this page. -->",
        "# The command line",
        fenced(group.get_help(root)),
    ]
    for name in group.list_commands(root):
        command = group.commands[name]
        context = command.context_class(command, info_name=name, parent=root)
        parts += [f"## turnout {name}", fenced(command.get_help(context))]
    return "\n\n".join(parts) + "\n"


def fenced(text: str) -> str:
    """A block that Markdown leaves alone."""
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"```text\n{lines}\n```"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
