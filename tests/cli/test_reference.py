"""docs/cli.md matches --help."""

from __future__ import annotations

from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command

from turnout.cli.app import make_app
from turnout.cli.reference import render_reference


def test_docs_cli_matches_help(root: Path) -> None:
    assert (root / "docs" / "cli.md").read_text() == render_reference(), "run `make generated`"


def test_every_option_and_argument_has_a_help_text() -> None:
    group = get_command(make_app())
    assert isinstance(group, TyperGroup)
    groups = [group, *(entry for entry in group.commands.values() if isinstance(entry, TyperGroup))]
    commands = [group, *(entry for inner in groups for entry in inner.commands.values())]
    assert len(commands) > 16
    assert not [
        (command.name, param.name) for command in commands for param in command.params if not getattr(param, "help", "")
    ]
