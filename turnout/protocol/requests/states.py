"""The states of an asynchronous request and the steps between them, as pure functions.

The store reads a `Progress`, applies one step and writes the result in one transaction. A step that the state does not
allow raises an error, so no order of events can run a request twice or lose it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

LONGEST_BACK_OFF_S = 60.0
THROTTLED_S = 1.0
"""Pause before a throttled request runs again. Such a run does not count as an attempt."""


class RequestState(enum.StrEnum):
    """The states of a request."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"


ENDED = frozenset({RequestState.DONE, RequestState.FAILED, RequestState.EXPIRED, RequestState.CANCELED})
"""States that only `redrive` changes."""

REDRIVEN = frozenset({RequestState.FAILED, RequestState.EXPIRED, RequestState.CANCELED})
"""States that `redrive` changes."""


class StepError(Exception):
    """The state, `state`, does not allow the step."""

    def __init__(self, step: str, state: RequestState) -> None:
        super().__init__(f"cannot {step} a request that is {state}")
        self.state = state


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A request's progress. Times are seconds since 1970.

    Args:
        state: the current state.
        accepted: when it was accepted.
        expires: for a queued request, the time after which it may no longer start; for an ended one, the time of its
            deletion.
        time_to_live_s: the period from which `expires` is computed.
        max_attempts: number of runs after which it has failed.
        attempts: runs so far, including the current one.
        not_before: earliest time at which a queued request may start.
        begun: start of its last run, or None.
        ended: time when it ended, or None.
    """

    state: RequestState
    accepted: float
    expires: float
    time_to_live_s: float
    max_attempts: int
    attempts: int = 0
    not_before: float = 0.0
    begun: float | None = None
    ended: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether only `redrive` can change its state."""
        return self.state in ENDED


def accept(now: float, time_to_live_s: float, max_attempts: int) -> Progress:
    """Return the progress of a new, queued request."""
    return Progress(
        state=RequestState.QUEUED,
        accepted=now,
        expires=now + time_to_live_s,
        time_to_live_s=time_to_live_s,
        max_attempts=max_attempts,
        not_before=now,
    )


def may_begin(progress: Progress, now: float) -> bool:
    """Whether a run may start."""
    return progress.state is RequestState.QUEUED and progress.not_before <= now < progress.expires


def begin(progress: Progress, now: float) -> Progress:
    """Start a run."""
    if not may_begin(progress, now):
        raise StepError("begin", progress.state)
    return replace(progress, state=RequestState.RUNNING, attempts=progress.attempts + 1, begun=now)


def succeed(progress: Progress, now: float) -> Progress:
    """End a run that returned an answer."""
    return _end(_running(progress, "finish"), RequestState.DONE, now)


def fail(progress: Progress, now: float, *, is_final: bool = False) -> Progress:
    """End a run without an answer: queue the request for a retry, or let it fail.

    Args:
        progress: the progress of a running request.
        now: the time.
        is_final: whether another run would fail as well.
    """
    again = now + back_off_s(_running(progress, "fail").attempts)
    if is_final or progress.attempts >= progress.max_attempts or again >= progress.expires:
        return _end(progress, RequestState.FAILED, now)
    return replace(progress, state=RequestState.QUEUED, not_before=again)


def give_back(progress: Progress, now: float, wait_s: float = 0.0) -> Progress:
    """Queue a request again whose run does not count: it was throttled, or the server stopped."""
    attempts = _running(progress, "give back").attempts - 1
    return replace(progress, state=RequestState.QUEUED, attempts=attempts, not_before=now + wait_s)


def cancel(progress: Progress, now: float) -> Progress:
    """Cancel a request that has not started. Canceling it again changes nothing."""
    if progress.state is RequestState.CANCELED:
        return progress
    if progress.state is not RequestState.QUEUED:
        raise StepError("cancel", progress.state)
    return _end(progress, RequestState.CANCELED, now)


def expire(progress: Progress, now: float) -> Progress:
    """End a request that waited too long."""
    if progress.state is not RequestState.QUEUED or now < progress.expires:
        raise StepError("expire", progress.state)
    return _end(progress, RequestState.EXPIRED, now)


def redrive(progress: Progress, now: float) -> Progress:
    """Queue a request again that ended without an answer."""
    if progress.state not in REDRIVEN:
        raise StepError("redrive", progress.state)
    return replace(
        progress,
        state=RequestState.QUEUED,
        attempts=0,
        not_before=now,
        expires=now + progress.time_to_live_s,
        begun=None,
        ended=None,
    )


def is_forgotten(progress: Progress, now: float) -> bool:
    """Whether an ended request can be deleted."""
    return progress.has_ended and now >= progress.expires


def back_off_s(attempts: int) -> float:
    """Return the pause after this number of failed runs: 1, 2, 4, ... seconds."""
    return min(LONGEST_BACK_OFF_S, 2.0 ** max(0, attempts - 1))


def _running(progress: Progress, step: str) -> Progress:
    if progress.state is not RequestState.RUNNING:
        raise StepError(step, progress.state)
    return progress


def _end(progress: Progress, state: RequestState, now: float) -> Progress:
    return replace(progress, state=state, ended=now, expires=now + progress.time_to_live_s)
