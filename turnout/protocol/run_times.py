"""When a function's model ran: requested in an event, returned in its answer, both under the key `turnout`.

API Gateway makes no such key, so no client can request it; the gateway that requested it removes it from the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

KEY = "turnout"
ASKED = "run_times"

MOST_RUNS = 100


def asking_for_run_times(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same event with a request for run times."""
    return {**event, KEY: {**(event.get(KEY) or {}), ASKED: True}}


def wants_run_times(event: Mapping[str, Any]) -> bool:
    """Whether an event requests run times."""
    said = event.get(KEY)
    return isinstance(said, Mapping) and bool(said.get(ASKED))


def with_run_times(answer: dict[str, Any], times: list[tuple[int, int]]) -> dict[str, Any]:
    """Return the answer with start and end of each run, in ns since 1970."""
    return {**answer, KEY: {**(answer.get(KEY) or {}), ASKED: [list(span) for span in times]}}


def take_run_times(answer: Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, Iterator[tuple[int, int]]]:
    """Return the answer without run times, and the valid ones: a function may run untrusted code."""
    if answer is None or KEY not in answer:
        return answer, iter(())
    said = answer[KEY]
    if not isinstance(said, Mapping) or ASKED not in said:
        return answer, iter(())
    others = {name: value for name, value in said.items() if name != ASKED}
    rest = {name: value for name, value in answer.items() if name != KEY} | ({KEY: others} if others else {})
    rows = said[ASKED]
    return rest, _read(rows if isinstance(rows, list) else [])


def _read(rows: list[Any]) -> Iterator[tuple[int, int]]:
    for times in rows[:MOST_RUNS]:
        if (
            isinstance(times, list)
            and len(times) == 2
            and all(type(time) is int for time in times)
            and 0 < times[0] <= times[1]
        ):
            yield times[0], times[1]
