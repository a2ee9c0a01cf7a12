"""The limits of one key in a usage plan: requests per second, and requests per day, week or month."""

from __future__ import annotations

import time
from collections.abc import Callable

from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.errors import QUOTA_EXCEEDED, THROTTLED, GatewayError
from turnout.gateway.rules.throttle import Bucket
from turnout.manifest.parser import Throttle

_DAY_S = 86_400
_MONDAY = 4 * _DAY_S
"""The first Monday of the Unix epoch, in seconds."""


def period_of(kind: str, now: float) -> str:
    """Return the name of the period of a time. A `week` starts on Monday; all periods start at midnight, UTC."""
    if kind == "week":
        return str(int((now - _MONDAY) // (7 * _DAY_S)))
    return time.strftime("%Y-%m" if kind == "month" else "%Y-%m-%d", time.gmtime(now))


class CallerLimits:
    """One key's throttle and quota. A quota is a bucket that is never refilled, with a new one for each period.

    Args:
        stage: the key's stage.
        key: a key with a consumer.
        bucket_of: makes a counter by name.
    """

    __slots__ = ("_bucket_of", "_name", "_period", "_quota", "_throttle", "consumer")

    def __init__(self, stage: str, key: ApiKey, bucket_of: Callable[[str, Throttle], Bucket]) -> None:
        assert key.consumer is not None
        self.consumer = key.consumer
        self._name = f"{stage} {key.id}"
        self._bucket_of = bucket_of
        self._throttle: Bucket | None = None
        if self.consumer.rate:
            self._throttle = bucket_of(self._name, Throttle(self.consumer.rate, self.consumer.burst))
        self._period = ""
        self._quota: Bucket | None = None

    def take(self, monotonic: float, now: float) -> GatewayError | None:
        """Take one request from both; return the error if there is none left.

        Args:
            monotonic: time of the monotonic clock in seconds.
            now: seconds since 1970.
        """
        if self._throttle is not None and not self._throttle.take(monotonic):
            return THROTTLED
        quota = self.consumer.quota
        if quota is None:
            return None
        period = period_of(quota.period, now)
        if period != self._period or self._quota is None:
            self._period = period
            self._quota = self._bucket_of(f"{self._name} {quota.period} {period}", Throttle(0.0, quota.requests))
        return None if self._quota.take(monotonic) else QUOTA_EXCEEDED
