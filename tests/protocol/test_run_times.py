from __future__ import annotations

from typing import Any

import pytest

from turnout.protocol.run_times import asking_for_run_times, take_run_times, wants_run_times, with_run_times


def test_an_event_requests_run_times_and_keeps_what_routers_wrote() -> None:
    event = {"body": "b", "turnout": {"hop": 2, "shadow": True}}
    asking = asking_for_run_times(event)
    assert wants_run_times(asking)
    assert asking["turnout"]["hop"] == 2
    assert not wants_run_times(event)
    assert not wants_run_times({"turnout": {"ping": True}})
    assert not wants_run_times({"turnout": "x"})


def test_an_answer_contains_run_times_until_they_are_taken() -> None:
    answer = {"statusCode": 200, "body": "{}"}
    rest, times = take_run_times(with_run_times(answer, [(5, 7), (8, 8)]))
    assert rest == answer
    assert list(times) == [(5, 7), (8, 8)]
    assert take_run_times(None)[0] is None
    assert take_run_times(answer)[0] is answer


def test_other_parts_of_an_answer_stay() -> None:
    answer = {"statusCode": 200, "turnout": {"answer_file": "/x"}}
    rest, times = take_run_times(with_run_times(answer, [(5, 7)]))
    assert rest == answer
    assert list(times) == [(5, 7)]
    assert take_run_times(answer)[0] is answer


@pytest.mark.parametrize("said", [5, [[1], ["a", "b"], [2, 1], [True, 1], [-1, 5], [0, 5]], None])
def test_invalid_times_are_left_out(said: Any) -> None:
    rest, times = take_run_times({"statusCode": 200, "turnout": {"run_times": said}})
    assert rest == {"statusCode": 200}
    assert list(times) == []


def test_an_answer_of_another_shape_is_not_changed() -> None:
    answer = {"statusCode": 200, "turnout": 5}
    assert take_run_times(answer)[0] is answer
