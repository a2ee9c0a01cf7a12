from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from model_lambdas.function.timed_model import TimedModel
from tests.builders.model_functions import identity, open_request, proxy_event
from turnout.protocol.run_times import asking_for_run_times, take_run_times


class Failing:
    def run(self, *_: Any) -> Any:
        raise ValueError("no")


def test_a_failing_run_is_recorded_too() -> None:
    times: list[tuple[int, int]] = []
    with pytest.raises(ValueError, match="no"):
        TimedModel(Failing(), times).run({})
    ((started, ended),) = times
    assert 0 < started <= ended


def test_a_function_returns_the_run_times_on_request(tmp_path: Path) -> None:
    function = identity(tmp_path)
    event = proxy_event(orjson.dumps(open_request([1.0] * 4, [1, 4])))
    plain = function(event, None)
    assert "turnout" not in plain
    before = time.time_ns()
    answer, times = take_run_times(function(asking_for_run_times(event), None))
    assert answer == plain
    ((started, ended),) = times
    assert before <= started <= ended <= time.time_ns()


def test_a_rejected_request_has_no_run(tmp_path: Path) -> None:
    answer = identity(tmp_path)(asking_for_run_times(proxy_event("{}")), None)
    assert answer["statusCode"] == 400
    assert "turnout" not in answer
