"""How many requests a stage takes: a token bucket with API Gateway's two numbers, rate and burst.

Comes in: the moment. Goes out: whether the request may pass. Called by the gateway's core, after authorization and
before validation, as on AWS.
"""

from __future__ import annotations

from typing import Protocol

from turnout.manifest import Throttle

# A sum of a hundred hundredths is a little less than one: without this the hundredth request would wait for the next.
_ROUNDING = 1e-9


class Bucket(Protocol):
    """Where tokens are counted: in this process, or in memory that several share."""

    def take(self, now: float) -> bool:
        """Take one token at `now`, seconds of a clock that never goes back; False where there is none."""
        ...


class TokenBucket:
    """Full at first: `burst` at once, then `rate` per second; never more than `burst + rate * t` in any t seconds.

    Args:
        throttle: the stage's rate and burst.
    """

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, throttle: Throttle) -> None:
        self._rate = throttle.rate
        self._burst = float(throttle.burst)
        self._tokens = self._burst
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Take one token; a clock that goes back counts as one that stands still."""
        if self._last is None:
            self._last = now
        elif now > self._last:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
            self._last = now
        if self._tokens < 1 - _ROUNDING:
            return False
        self._tokens -= 1
        return True
