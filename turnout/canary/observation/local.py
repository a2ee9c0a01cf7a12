"""The local gateway's own counters, read over HTTP: exact, immediate, and separate for each share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from turnout.canary.judging.observed import Arm, Observation
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.client.connection import ApiConnection, UnreachableError
from turnout.plan.served_by import Watched
from turnout.system.service_tokens import service_headers

TIMEOUT_S = 10.0

_KEYS = {"time", "run", "bounds_s", "functions"}


class LocalSource:
    """Counters start with the server, so an observation is their increase.

    After a restart of the server they start at zero, and so does the observation.

    Args:
        url: `http://127.0.0.1:8080`.
        token: the one that the server's services require, or empty.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url
        self._token = token

    def start(self, stage: str, watched: Sequence[Watched]) -> ObservationStart:
        """Return the counters now."""
        return ReadCounters(self._read(stage)).start(stage, watched)

    def observe(self, stage: str, watched: Sequence[Watched], since: ObservationStart) -> Observation:
        """Return the counts since then."""
        return ReadCounters(self._read(stage)).observe(stage, watched, since)

    def _read(self, stage: str) -> Mapping[str, Any]:
        path = f"/turnout/metrics?{urlencode({'stage': stage})}"
        try:
            with closing(ApiConnection(self._url, timeout_s=TIMEOUT_S)) as connection:
                answer = connection.request("GET", path, headers=service_headers(self._token))
        except (UnreachableError, ValueError) as error:
            raise ObservationError(str(error), "Check that `turnout serve` runs there.") from error
        try:
            metrics = json.loads(answer.body)
        except ValueError:
            metrics = None
        if answer.status != 200 or not (isinstance(metrics, Mapping) and metrics.keys() >= _KEYS):
            message = f"{self._url}{path} returned {answer.status} without counters"
            raise ObservationError(message, "Check that it is the address of `turnout serve`.")
        return metrics


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """Counters that were read before, for one stage or all of them. A page with several stages reads them once.

    Args:
        metrics: the answer of `/turnout/metrics`.
    """

    metrics: Mapping[str, Any]

    def start(self, stage: str, watched: Sequence[Watched]) -> ObservationStart:
        """The counters at the reading."""
        models = {pair.model: _arms(self.metrics, stage, (pair,)) for pair in watched}
        arms = _arms(self.metrics, stage, watched)
        return ObservationStart(self.metrics["time"], self.metrics["run"], *arms, models)

    def observe(self, stage: str, watched: Sequence[Watched], since: ObservationStart) -> Observation:
        """Return the counts between `since` and the time of reading."""
        baseline, canary = _arms(self.metrics, stage, watched)
        if self.metrics["run"] == since.run:
            before = [since.models[pair.model] for pair in watched if pair.model in since.models]
            for then in before if since.models else [(since.baseline, since.canary)]:
                baseline, canary = _less(baseline, then[0]), _less(canary, then[1])
        return Observation(baseline, canary, tuple(self.metrics["bounds_s"]))


def _arms(metrics: Mapping[str, Any], stage: str, watched: Sequence[Watched]) -> tuple[Arm, Arm]:
    """Return the counters of baseline and canary, by the stage's share or by the version that a router chose."""
    split = [pair for pair in watched if not pair.is_routed]
    shares = {False: {pair.baseline.function for pair in split}, True: {pair.canary.function for pair in split}}
    counted: dict[bool, list[Mapping[str, Any]]] = {False: [], True: []}
    for function in metrics["functions"]:
        if function["stage"] == stage and function["function"] in shares[function["canary"]]:
            counted[function["canary"]].append(function)
    for pair in watched:
        chosen = {
            version.partition(":")[0]: is_canary
            for is_canary, serving in ((False, pair.baseline), (True, pair.canary))
            for version in serving.versions
        }
        for function in metrics.get("routed", ()) if pair.is_routed else ():
            if function["stage"] == stage and function["function"] in chosen:
                counted[chosen[function["function"]]].append(function)
    buckets = len(metrics["bounds_s"]) + 1
    return _sum(counted[False], buckets), _sum(counted[True], buckets)


def _sum(counted: Iterable[Mapping[str, Any]], buckets: int) -> Arm:
    requests, errors, durations = 0, 0, [0] * buckets
    for counters in counted:
        requests += sum(counters["statuses"])
        errors += counters["failures"]
        durations = [a + b for a, b in zip(durations, counters["durations"], strict=True)]
    return Arm(requests, errors, tuple(durations))


def _less(now: Arm, then: Arm) -> Arm:
    return Arm(
        now.requests - then.requests,
        now.errors - then.errors,
        tuple(a - b for a, b in zip(now.durations, then.durations, strict=True)),
    )
