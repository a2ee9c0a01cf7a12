"""What the answer of a run means for its request."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """What follows from a run."""

    DONE = "done"
    FINAL = "failed, as every further run would"
    AGAIN = "failed; another run may succeed"
    NO_ROOM = "not run; does not count"


def judge_status(status: int) -> Outcome:
    """What a function's answer with this status means."""
    if status < 400:
        return Outcome.DONE
    if status == 429:
        return Outcome.NO_ROOM
    return Outcome.AGAIN if status >= 500 else Outcome.FINAL


def judge_error(error: str) -> Outcome:
    """What it means that a call gave no answer; `error` as in `Invocation.error`."""
    if error == "throttled":
        return Outcome.NO_ROOM
    return Outcome.FINAL if error in {"unknown_function", "too_large", "request_too_large"} else Outcome.AGAIN
