"""How the numbers of an overload are judged."""

from __future__ import annotations

import random

import pytest

from soak.result import Findings
from soak.runs.overload import CAPACITY, Call, judge, overtaken_s, percentile


def served(seconds: float, took_s: float = 1.0, rate: float = CAPACITY) -> list[Call]:
    """Return calls that were answered in order, and as many that were rejected immediately."""
    times = [number / rate for number in range(int(seconds * rate))]
    return [Call(at, at + took_s, 200, "") for at in times] + [Call(at, at + 0.01, 429, "1") for at in times]


def broken(calls: list[Call], seconds: float = 5.0) -> str:
    findings = Findings()
    judge(calls, [0.01] * 20, seconds, findings)
    return "\n".join(findings.lines())


def test_calls_in_order_and_in_time_pass() -> None:
    assert broken(served(5)) == ""


@pytest.mark.parametrize(
    ("calls", "what"),
    [
        ([*served(5), Call(1, 1.1, 429, "")], "a 429 without Retry-After"),
        ([*served(5), Call(1, 1.1, 502, "")], "status 502"),
        ([*served(5), Call(0.1, 3.5, 200, "")], "answered after one that was sent 2."),
        ([*served(5), *[Call(1, 3, 504, "")] * 400], "timed out"),
        (served(5, took_s=2.9), "p99 of the admitted is 2.90 s"),
        (served(5, rate=CAPACITY / 4), "the goodput is 25% of the capacity"),
        ([call for call in served(5) if call.status == 200], "nothing was refused"),
        ([call for call in served(5) if call.status != 200], "nothing was answered"),
        ([*served(5), *[Call(1, 2.5, 503, "1")] * 5000], "half of the refusals took longer"),
    ],
)
def test_each_broken_promise_is_reported(calls: list[Call], what: str) -> None:
    assert what in broken(calls)


def test_bounds_are_wider_if_a_health_check_waits_as_long() -> None:
    findings = Findings()
    judge(served(5, took_s=2.9), [0.5] * 20, 5.0, findings)
    assert findings.lines() == ()


def test_overtaking_is_measured_between_send_times() -> None:
    assert overtaken_s([Call(0, 1, 200, ""), Call(0.5, 1.5, 200, "")]) == 0
    assert overtaken_s([Call(0, 2, 200, ""), Call(0.5, 1.5, 200, "")]) == 0.5
    calls = [Call(at := number / 10, at + random.Random(number).random(), 200, "") for number in range(100)]
    slow = max(
        (later.sent - call.sent for call in calls for later in calls if later.answered < call.answered), default=0
    )
    assert overtaken_s(calls) == pytest.approx(max(slow, 0))


def test_percentile_is_an_observed_value() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1], 0.99) == 1
    assert percentile(list(map(float, range(100))), 0.99) == 99
