"""The ids and the time of every request, in AWS's formats, generated cheaply."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from functools import lru_cache

import pybase64

_BATCH = 512
_DIGITS = 72  # 32 for the request id, 24 for the trace's root, 16 for its parent
_CHARACTERS = 16  # length of the extended id, whose last character is padding
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


class Identifiers:
    """A stock of randomness, refilled in batches and dropped in a forked process, which would repeat its parent's.

    Args:
        random_bytes: source of randomness.
    """

    __slots__ = ("__weakref__", "_at", "_digits", "_extended", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._at = _BATCH
        self._digits = ""
        self._extended = ""
        itself = weakref.ref(self)

        def in_child() -> None:
            if (identifiers := itself()) is not None:
                identifiers.forget()

        os.register_at_fork(after_in_child=in_child)

    def forget(self) -> None:
        """Start with fresh randomness."""
        self._at = _BATCH

    def take(self) -> str:
        """Return the characters for one request, for `request_id` and the other functions."""
        at = self._at
        if at == _BATCH:
            self._refill()
            at = 0
        self._at = at + 1
        return (
            self._digits[at * _DIGITS : (at + 1) * _DIGITS] + self._extended[at * _CHARACTERS : (at + 1) * _CHARACTERS]
        )

    def _refill(self) -> None:
        self._digits = self._random_bytes(_DIGITS // 2 * _BATCH).hex()
        # Twelve bytes are sixteen characters. If the last byte is 0, the first fifteen characters spell the other
        # eleven bytes, and the last character takes the place of their padding.
        extended = bytearray(self._random_bytes(12 * _BATCH))
        extended[11::12] = bytes(_BATCH)
        self._extended = pybase64.urlsafe_b64encode(extended).decode("ascii")


def request_id(taken: str) -> str:
    """Return a version 4 UUID: `9c8d440b-420d-47c2-880c-c40f692293fa`."""
    return f"{taken[:8]}-{taken[8:12]}-4{taken[13:16]}-{_VARIANT[taken[16]]}{taken[17:20]}-{taken[20:32]}"


def extended_request_id(taken: str) -> str:
    """Return an id like API Gateway's `x-amz-apigw-id`, eleven bytes in base64: `FiV9AHvHoAMFtsg=`."""
    return f"{taken[72:87]}="


def trace_root(taken: str, now: float) -> str:
    """Return X-Ray's root.

    It consists of version, seconds since 1970 and 12 random bytes: `Root=1-699e4882-01d7d0c003396d7931cdb212`.
    """
    return _root_of(int(now)) + taken[32:56]


@lru_cache(maxsize=4)
def _root_of(second: int) -> str:
    return f"Root=1-{second:08x}-"


def trace_of_answer(trace: str, taken: str) -> str:
    """Return the trace of an answer: the request's trace with a parent and a sampling decision added.

    `trace` contains a root. Recorded from AWS: a full trace is returned unchanged, one with only a root is given a
    parent.
    """
    if trace.count("=") == 1:  # a root alone: nearly every request has this, set here if not by its client
        return f"{trace};Parent={taken[56:72]};Sampled=0"
    lowered = trace.lower()
    if "parent=" not in lowered:
        trace = f"{trace};Parent={taken[56:72]}"
    return trace if "sampled=" in lowered else f"{trace};Sampled=0"


class RequestTimes:
    """`requestTime` in API Gateway's format, `09/Apr/2015:12:34:56 +0000`, made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def at(self, now: float) -> str:
        """Return the text for a time in seconds since 1970."""
        second = int(now)
        if second != self._second:
            moment = time.gmtime(second)
            # English month names in every locale; strftime would use the locale's.
            self._text = (
                f"{moment.tm_mday:02d}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year:04d}:"
                f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} +0000"
            )
            self._second = second
        return self._text
