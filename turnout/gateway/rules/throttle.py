"""A stage's throttle: a token bucket with API Gateway's two numbers, rate and burst."""

from __future__ import annotations

from typing import Protocol

from turnout.manifest.parser import Throttle

# A sum of a hundred hundredths is slightly less than one: without this, the hundredth request would have to wait for
# the next token.
_ROUNDING = 1e-9


class Bucket(Protocol):
    """The storage of tokens: in this process, or in memory that several share."""

    def take(self, now: float) -> bool:
        """Take one token at time `now` of a monotonic clock in seconds; return False if there is none."""
        ...


def refill(throttle: Throttle, tokens: float, elapsed_s: float) -> float:
    """Return the tokens after this number of seconds; a clock that went back counts as stopped."""
    if elapsed_s <= 0:
        return tokens
    return min(float(throttle.burst), tokens + elapsed_s * throttle.rate)


def has_token(tokens: float) -> bool:
    """Whether there is a whole token."""
    return tokens >= 1 - _ROUNDING


class TokenBucket:
    """A bucket that starts full: `burst` at once, then `rate` per second.

    It never gives more than `burst + rate * t` in t seconds.

    Args:
        throttle: the stage's rate and burst.
    """

    __slots__ = ("_last", "_throttle", "_tokens")

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._tokens = float(throttle.burst)
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Take one token; a clock that goes back counts as stopped."""
        if self._last is None:
            self._last = now
        elif now > self._last:
            self._tokens = refill(self._throttle, self._tokens, now - self._last)
            self._last = now
        if not has_token(self._tokens):
            return False
        self._tokens -= 1
        return True
