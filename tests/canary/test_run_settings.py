from __future__ import annotations

import pytest

from turnout.canary.run_settings import interval_of, parse_bake, parse_steps, plan_text
from turnout.manifest.judgement import Judgement


@pytest.mark.parametrize("text", ["5_0,60", "\u0665,50", "0,50", "50,5", "100", "5,,50", "5,nan", ","])
def test_steps_must_be_plain_increasing_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="must be increasing percentages"):
        parse_steps(text)
    assert parse_steps("5, 25,100") == (5, 25, 100)


def test_bake_must_be_a_plain_number() -> None:
    assert parse_bake("1.5m") == 1.5
    with pytest.raises(ValueError, match="must be a number with s, m or h"):
        parse_bake("\u0665m")


@pytest.mark.parametrize(("minutes", "seconds"), [(0.0, 0.2), (0.1, 0.6), (10, 2.0)])
def test_a_run_checks_ten_times_per_bake_time_within_bounds(minutes: float, seconds: float) -> None:
    assert interval_of(Judgement(bake_minutes=minutes), is_local=True) == pytest.approx(seconds)


def test_a_run_is_described_in_words() -> None:
    judgement = Judgement(strategy="canary", steps=(5, 25), bake_minutes=0.5, confidence=0.95)
    assert plan_text(judgement, 10) == "5%, 25%; at least 30 seconds per step; judged with 95% confidence."
