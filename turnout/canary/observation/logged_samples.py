"""Requests that model functions on AWS logged (`capture` of a version), read from CloudWatch Logs.

Requests that name their version are skipped, because no canary decides about them. Among them are requests that were
sent again earlier, which the functions log like any other. Asynchronous requests are skipped, because a canary is
judged by synchronous calls.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from turnout.canary.observation.samples import MOST_SAMPLES
from turnout.canary.observation.source import ObservationError
from turnout.client.captured_lines import CaptureError, Sample, read_lines
from turnout.plan.log_groups import LOG_GROUPINGS, log_group_name
from turnout.protocol.codecs.samples import CAPTURE_KEY
from turnout.protocol.naming import split_function_name

LAG_S = 60.0
"""Lines appear with a delay; lines that appear later than this are skipped."""

LONGEST_S = 3600.0
"""Longest time span in one read, however long ago the canary started."""

MOST_PAGES = 10
"""Most pages of one function's log in one read. CloudWatch returns what it found in a megabyte, even if that is
nothing.
"""


class LoggedSamples:
    """Reads the logs in order: each read continues where the last one ended.

    Args:
        client: `boto3.client("logs")` in the functions' account and region.
        functions: name -> the share of its logged requests to use, 0-1.
        clock: seconds since 1970.
        random: returns a number from 0 up to, but not including, 1; called once per request.
        pools: name that a pooled version's own function would have -> its pool's function, which logs for it.
    """

    def __init__(
        self,
        client: Any,
        functions: Mapping[str, float],
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
        *,
        pools: Mapping[str, str] | None = None,
    ) -> None:
        self._pools = pools or {}
        self._client = client
        self._functions = functions
        self._clock = clock
        self._random = random
        self._read_until_s = 0.0

    def take(self, stage: str, since_s: float) -> Sequence[Sample]:
        """Return the stage's requests since then; for each function at most its share of `MOST_SAMPLES`."""
        from botocore.exceptions import BotoCoreError, ClientError

        end_s = self._clock() - LAG_S
        start_s = max(since_s, self._read_until_s, end_s - LONGEST_S)
        if start_s >= end_s or not self._functions:
            return []
        most = max(1, MOST_SAMPLES // len(self._functions))
        samples: list[Sample] = []
        try:
            for function, part in self._functions.items():
                samples.extend(self._wanted(function, part, stage, start_s, end_s, most))
        except (BotoCoreError, ClientError) as error:
            hint = "This needs logs:FilterLogEvents for the functions' log groups."
            raise ObservationError(f"CloudWatch Logs cannot be read: {error}".rstrip("."), hint) from error
        self._read_until_s = end_s
        return samples

    def _wanted(
        self, function: str, part: float, stage: str, start_s: float, end_s: float, most: int
    ) -> Iterator[Sample]:
        for message in self._messages(function, start_s, end_s):
            with suppress(CaptureError):  # a truncated line
                for line in read_lines([message.encode()]):
                    for sample in line.samples:
                        is_own = split_function_name(function) == (sample.model, sample.version)
                        if is_own and sample.stage == stage and _is_decided(sample) and self._random() < part:
                            yield sample
                            most -= 1
            if most <= 0:
                return

    def _messages(self, function: str, start_s: float, end_s: float) -> Iterator[str]:
        """Yield the lines with captured requests, oldest first, from the log groups of the stack's functions."""
        function = self._pools.get(function, function)
        for group in (log_group_name(function, grouping) for grouping in LOG_GROUPINGS):
            pages = self._client.get_paginator("filter_log_events").paginate(
                logGroupName=group,
                startTime=round(start_s * 1000),
                endTime=round(end_s * 1000) - 1,  # inclusive
                filterPattern=CAPTURE_KEY,
            )
            try:
                for number, page in enumerate(pages, 1):
                    yield from (event["message"] for event in page["events"])
                    if number == MOST_PAGES:
                        return
            except self._client.exceptions.ResourceNotFoundException:
                if group == log_group_name(function, LOG_GROUPINGS[-1]):
                    raise
            else:
                return


def _is_decided(sample: Sample) -> bool:
    """Whether the canary decided which version answered a synchronous call: the path names only the model."""
    return not sample.asynchronous and sample.resource in {
        f"/models/{sample.model}/inference",
        f"/v2/models/{sample.model}/infer",
    }
