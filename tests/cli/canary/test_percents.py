"""Percents on the command line are plain numbers."""

from __future__ import annotations

import pytest
import typer

from turnout.cli.canary.percents import parse_percent
from turnout.cli.canary.run import parse_bake, parse_steps
from turnout.cli.output import CommandError

WRONG = ["", " 5", "5 ", "5_0", "+5", "-1", "1e1", "nan", "inf", "0x5", "5,5", "100.1", "\u0665\u0660", "\uff15", "5\n"]


@pytest.mark.parametrize("text", WRONG)
def test_text_that_is_no_plain_number_from_0_to_100_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a number from 0 to 100"):
        parse_percent(text)


@pytest.mark.parametrize(("text", "percent"), [("0", 0), ("10", 10), ("12.5", 12.5), ("100", 100), ("007", 7)])
def test_plain_number_is_taken(text: str, percent: float) -> None:
    assert parse_percent(text) == percent


@pytest.mark.parametrize("text", ["5_0,60", "\u0665,50", "0,50", "50,5", "100", "5,,50", "5,nan", ","])
def test_steps_are_plain_rising_numbers(text: str) -> None:
    with pytest.raises(CommandError, match="must be increasing percentages"):
        parse_steps(text)
    assert parse_steps("5, 25,100") == (5, 25, 100)


def test_bake_has_plain_digits() -> None:
    assert parse_bake("1.5m") == 1.5
    with pytest.raises(CommandError, match="must be a number with s, m or h"):
        parse_bake("\u0665m")
