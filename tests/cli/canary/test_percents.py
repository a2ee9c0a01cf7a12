"""Percents on the command line are plain numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import typer

from turnout.canary.run_settings import parse_bake, parse_steps
from turnout.cli.canary.percents import parse_percent
from turnout.cli.canary.run import parse_option
from turnout.cli.output import CommandError

WRONG = ["", " 5", "5 ", "5_0", "+5", "-1", "1e1", "nan", "inf", "0x5", "5,5", "100.1", "\u0665\u0660", "\uff15", "5\n"]


@pytest.mark.parametrize("text", WRONG)
def test_text_that_is_not_a_plain_number_from_0_to_100_is_rejected(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a number from 0 to 100"):
        parse_percent(text)


@pytest.mark.parametrize(("text", "percent"), [("0", 0), ("10", 10), ("12.5", 12.5), ("100", 100), ("007", 7)])
def test_plain_number_is_accepted(text: str, percent: float) -> None:
    assert parse_percent(text) == percent


@pytest.mark.parametrize(
    ("name", "parse", "text", "message"),
    [
        ("--steps", parse_steps, "50,5", "--steps must be increasing percentages such as 5,25,50, not '50,5'."),
        ("--bake", parse_bake, "5", "--bake must be a number with s, m or h, such as 90s or 10m, not '5'."),
    ],
)
def test_an_unreadable_option_is_named(name: str, parse: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        parse_option(name, parse, text)
