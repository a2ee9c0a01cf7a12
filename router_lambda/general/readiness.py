"""Checks whether functions answer: each gets a ping, which it answers without an inference once its session is open.

A ping is a real call: on AWS it starts a sleeping function. Results are cached for some seconds, so frequent health
checks of a stage cost at most one ping per function in that time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from turnout.protocol.aws.events import PING
from turnout.protocol.errors import RequestError
from turnout.protocol.naming import is_pool
from turnout.protocol.routing.invocation import Answered, Invoke
from turnout.protocol.routing.pooled import aim_at

from ..proxy_answers import status_of
from ..tasks import Tasks
from .serving import Reached

FRESH_S = 5.0
"""How long a result is cached."""

PINGS_AT_ONCE = 50

MARGIN_S = 0.5
"""Time kept back from the caller's limit to report which versions did not answer."""

MOST_SHOWN = 3
"""Most versions named in the error's message; its details name all."""

NO_VERSION: Reached = ("", "")

NOTHING_SERVED = "is not served: no stage variable names a version of it"

REASONS = {
    "throttled": "is throttled",
    "timed_out": "did not answer in time",
    "unknown_function": "has no function",
}


class Readiness:
    """Pings functions and caches the results for a short time.

    Args:
        invoke: calls a function.
        tasks: runs the pings concurrently.
        clock: monotonic clock in seconds, also used for deadlines.
    """

    def __init__(self, invoke: Invoke, tasks: Tasks, clock: Callable[[], float]) -> None:
        self._invoke = invoke
        self._tasks = tasks
        self._clock = clock
        self._known: dict[tuple[str, str, Reached], tuple[float, str]] = {}

    async def check(
        self, reached: Mapping[Reached, str], alias: str, deadline_s: float, *, opens_pooled: bool = False
    ) -> None:
        """Ping all functions concurrently.

        Args:
            reached: versions and the function of each; an empty name if there is no function.
            alias: the alias of all functions.
            deadline_s: when the caller gives up, as a time of the clock.
            opens_pooled: whether a pool opens the versions; otherwise it is pinged once and opens none, because a pool
                of thousands would do nothing else.

        Raises:
            RequestError: NOT_READY, with all functions that do not answer.
        """
        silent: list[dict[str, str]] = []
        answers = list(reached.items())
        if not opens_pooled:
            await self._ask_pools(answers, alias, deadline_s)
        for start in range(0, len(answers), PINGS_AT_ONCE):
            batch = answers[start : start + PINGS_AT_ONCE]
            asking = (
                self._ask(function, alias, deadline_s - MARGIN_S, version if opens_pooled else NO_VERSION)
                for version, function in batch
            )
            for ((model, version), _), reason in zip(batch, await self._tasks.gather(asking), strict=True):
                if reason:
                    silent.append({"model": model, "version": version, "reason": reason})
        if silent:
            sentences = "; ".join(" ".join(filter(None, entry.values())) for entry in silent[:MOST_SHOWN])
            more = f"; and {len(silent) - MOST_SHOWN} more" if len(silent) > MOST_SHOWN else ""
            raise RequestError("NOT_READY", f"not ready: {sentences}{more}", not_ready=silent)

    async def _ask_pools(self, answers: list[tuple[Reached, str]], alias: str, deadline_s: float) -> None:
        """Ping each pool once; all its versions get its answer."""
        pools = dict.fromkeys(function for _, function in answers if is_pool(function))
        if pools:
            await self._tasks.gather(self._ask(pool, alias, deadline_s - MARGIN_S, NO_VERSION) for pool in pools)

    async def _ask(self, function: str, alias: str, deadline_s: float, version: Reached) -> str:
        """Return why a function, or one version of a pool, does not answer; empty if it does."""
        if not function:
            return NOTHING_SERVED
        key = (function, alias, version if is_pool(function) else NO_VERSION)
        asked, reason = self._known.get(key, (-FRESH_S, ""))
        now = self._clock()
        if now - asked < FRESH_S:
            return reason
        if now >= deadline_s:
            return REASONS["timed_out"]
        ping = PING if key[2] == NO_VERSION else aim_at(PING, *version)
        reason = _reason_of(await self._invoke(function, alias, ping, deadline_s=deadline_s))
        self._known[key] = (self._clock(), reason)
        return reason


def _reason_of(answered: Answered) -> str:
    if answered.answer is not None and status_of(answered.answer) == 200:
        return ""
    return REASONS.get(answered.error, "failed")
