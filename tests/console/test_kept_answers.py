from __future__ import annotations

from pathlib import Path

import pytest

from turnout.canary.rollout.stage_control import StageTarget
from turnout.console.actions import WishError
from turnout.console.door import Door
from turnout.console.kept_answers import KeptAnswers
from turnout.console.subject import Subject

HERE = StageTarget("local", "http://127.0.0.1:1")


@pytest.mark.parametrize("target", [HERE, StageTarget("prod")])
def test_requests_are_not_shown_on_an_open_console(target: StageTarget) -> None:
    answers = KeptAnswers(Subject(Path("models.yaml"), target), Door(is_open=True, may_write=False))
    for ask in (*answers.reading.values(), answers.compare, answers.save):
        with pytest.raises(WishError, match="contain what callers sent") as raised:
            ask({"key": "0" * 16})
        assert raised.value.status == 403
