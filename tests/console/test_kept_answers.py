from __future__ import annotations

from pathlib import Path

import pytest

from turnout.canary.rollout.stage_control import StageTarget
from turnout.console.actions import WishError
from turnout.console.door import Door
from turnout.console.kept_answers import KeptAnswers
from turnout.console.subject import Subject

HERE = StageTarget("local", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("target", "door", "status", "words"),
    [
        (HERE, Door(is_open=True, may_write=False), 403, "hold what callers sent"),
        (StageTarget("prod"), Door(), 422, "in the functions' logs"),
    ],
)
def test_requests_are_shown_only_where_they_may_be(target: StageTarget, door: Door, status: int, words: str) -> None:
    answers = KeptAnswers(Subject(Path("models.yaml"), target), door)
    for ask in (*answers.reading.values(), answers.compare, answers.save):
        with pytest.raises(WishError, match=words) as raised:
            ask({"key": "0" * 16})
        assert raised.value.status == status
