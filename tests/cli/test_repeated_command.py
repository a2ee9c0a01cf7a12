"""The command that an error suggests: what the user typed, with other options."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

import pytest
import typer

from turnout.cli.app import make_app
from turnout.cli.conversion_options import ConversionOptions
from turnout.cli.repeated_command import repeat_command

NAMES = ("add", "iris", "v1", "model.joblib")

CASES = {
    "no options": ((), ""),
    "options as typed": (
        ("--rtol", "0.1", "--trust", "a.B", "--trust", "c.D", "--trust-pickle", "--json"),
        "--rtol 0.1 --trust-pickle --trust a.B --trust c.D --json",
    ),
    "a default that was typed": (("--memory-limit", "8192"), "--memory-limit 8192"),
    "a short name": (("--manifest", "shop"), "-m shop"),
    "words that a shell would split": (
        ("--samples", "my rows.csv", "--requirement", "numpy>=2; python_version > '3'"),
        "--requirement 'numpy>=2; python_version > '\"'\"'3'\"'\"'' --samples 'my rows.csv'",
    ),
}


def context_of(words: tuple[str, ...]) -> typer.Context:
    group: Any = typer.main.get_command(make_app(["add", "update"]))
    outer = group.make_context("turnout", list(words))
    name, command, rest = group.resolve_command(outer, list(words))
    context: typer.Context = command.make_context(name, rest, parent=outer)
    return context


@pytest.mark.parametrize("case", CASES)
def test_command_keeps_what_was_typed(case: str) -> None:
    options, want = CASES[case]
    context = context_of((*NAMES, *options))
    printed = repeat_command(context, {})
    assert printed == " ".join(("turnout", *NAMES, want)).rstrip()
    assert context_of(tuple(shlex.split(printed)[1:])).params == context.params


def test_other_values_replace_typed_ones() -> None:
    typed = (*NAMES, "--runtime", "onnx", "--transform", "t.py", "--samples", "rows.csv")
    printed = repeat_command(context_of(typed), {"runtime": "python"}, without={"transform"})
    assert printed == "turnout add iris v1 model.joblib --runtime python --samples rows.csv"


def test_choices_carry_the_command_that_serves_the_model_as_python() -> None:
    options = ConversionOptions(trust_pickle=True)
    context = context_of((*NAMES, "--trust-pickle", "--transform", "t.py"))
    want = "turnout add iris v1 model.joblib --runtime python --trust-pickle"
    assert options.choices(context, "model.joblib").python_command == want


def test_an_update_has_every_option_of_a_conversion() -> None:
    names = {field.name for field in fields(ConversionOptions)}
    for words in (NAMES, ("update", "iris")):
        assert names <= {parameter.name for parameter in context_of(words).command.params}
