from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.core import TyperCommand
from typer.main import get_command

from turnout.cli.app import COMMANDS, make_app
from turnout.cli.quick_values import read_quickly


class Color(Enum):
    RED = "red"


def double(value: Any) -> int:
    return int(value) * 2


def show(
    text: Annotated[str | None, typer.Option()] = None,
    number: Annotated[int, typer.Option(min=-3, max=65_535)] = 7,
    share: Annotated[float, typer.Option(max=100)] = 0.5,
    path: Annotated[Path, typer.Option()] = Path(),
    folder: Annotated[Path | None, typer.Option(file_okay=False)] = None,
    color: Annotated[Color, typer.Option()] = Color.RED,
    parsed: Annotated[int, typer.Option(parser=double)] = 4,
    texts: Annotated[list[str] | None, typer.Option()] = None,
    paths: Annotated[list[Path] | None, typer.Option()] = None,
    flag: Annotated[bool, typer.Option()] = False,
    perhaps: Annotated[bool | None, typer.Option()] = None,
) -> Any:
    return text, number, share, path, folder, color, parsed, texts, paths, flag, perhaps


def make_command(*, is_quick: bool) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(show)
    command = get_command(app)
    if is_quick:
        read_quickly(command)
    return command


QUICK, TYPERS = make_command(is_quick=True), make_command(is_quick=False)


def call(command: Any, arguments: Sequence[str]) -> str:
    """Return what the function gets, or the error message."""
    try:
        return repr(command.main(list(arguments), "show", standalone_mode=False))
    except typer.TyperException as error:
        return error.format_message()


NUMBERS = [
    "7",
    "-3",
    "-4",
    "+7",
    " 7",
    "07",
    "1_0",
    "٣",
    "7.0",
    "1e2",
    "65536",
    "nan",
    "inf",
    "100.5",
    ".5",
    "-0",
    "9" * 30,
]
NAMES = ["text", "number", "share", "path", "folder", "color", "parsed", "texts", "paths", "flag", "perhaps"]
VALUES = st.sampled_from([*NUMBERS, "red", "RED", "/", "/dev/null", "~", "a b", "", "-"]) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4))
def test_values_are_those_of_typer(pairs: list[tuple[str, str]]) -> None:
    arguments = [f"--{name}={value}" if name not in {"flag", "perhaps"} else f"--{name}" for name, value in pairs]
    assert call(QUICK, arguments) == call(TYPERS, arguments)


def test_a_file_that_cannot_be_read_is_left_to_typer(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("")
    arguments = [f"--folder={folder}"]
    message = call(QUICK, arguments)
    assert message == call(TYPERS, arguments)
    assert "is a file" in message


def test_every_command_reads_quickly() -> None:
    group = get_command(make_app())
    context = typer.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        if isinstance(command, TyperCommand):
            assert all(type(parameter._runtime_param).__name__ == "QuickValue" for parameter in command.params), name


LIST_MODULES = """
import sys
from turnout.cli.__main__ import main
code = main(sys.argv[1:])
print("pydantic" in sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "8080", "--workers", "2", "--max-memory", "2GB", "--stage", "dev", "-m", "missing.yaml"],
        ["validate", "-m", "missing.yaml"],
        ["plan", "-m", "missing.yaml", "--account", "123456789012"],
        ["canary", "start", "prod", "--model", "iris", "--to", "v2", "--percent", "10", "-m", "missing.yaml"],
        ["add", "iris", "v2", "missing.onnx", "-m", "missing.yaml"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_usual_arguments_need_no_pydantic(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIST_MODULES, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
