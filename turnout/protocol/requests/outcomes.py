"""Decides from a run's answer whether its request is done, failed or tried again."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """The outcome of a run for its request."""

    DONE = "done"
    FINAL = "failed, as every further run would"
    AGAIN = "failed; another run may succeed"
    NO_ROOM = "not run; does not count"


def judge_status(status: int) -> Outcome:
    """The outcome of an answer with this status."""
    if status < 400:
        return Outcome.DONE
    if status == 429:
        return Outcome.NO_ROOM
    return Outcome.AGAIN if status >= 500 else Outcome.FINAL


def judge_error(error: str) -> Outcome:
    """The outcome of a call without an answer; `error` as in `Invocation.error`."""
    if error == "throttled":
        return Outcome.NO_ROOM
    return Outcome.FINAL if error in {"unknown_function", "too_large", "request_too_large"} else Outcome.AGAIN
