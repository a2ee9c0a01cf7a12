"""The latest requests that functions on AWS logged (`capture` of a version), for users who view them.

`LoggedSamples` reads forward, for a canary's judgement. This class reads backward: the last minutes first, and further
back only if they contain few requests. CloudWatch returns the oldest lines of a span first and allows few calls a
second, so each read is limited to a number of pages, and its results are cached for the next one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from turnout.canary.observation.source import ObservationError
from turnout.client.captured_lines import CaptureError, Sample, read_lines
from turnout.plan.log_groups import LOG_GROUPINGS, log_group_name
from turnout.protocol.codecs.samples import CAPTURE_KEY
from turnout.protocol.naming import function_name, split_function_name

SPANS_S = (300.0, 3600.0, 86_400.0)
"""How far back a read goes, one span after another, until it has enough requests."""

LATE_S = 60.0
"""The next read repeats this span, because lines appear some seconds after the request."""

REFRESH_S = 15.0
"""A group is read again after this time; earlier reads return the cached requests."""

FORGET_S = 900.0
"""A group that was not read for this long is read as if for the first time, because it may have too many new lines."""

MOST_OF_GROUP = 300
"""Most requests cached for one log group, the latest ones."""

MOST_GROUP_BYTES = 4 * 1024 * 1024
"""Most bytes of bodies cached for one log group."""

MOST_PAGES = 5
"""Most pages of one group in one read. A page has up to a megabyte of lines, or none if none were found so far."""

MOST_GROUPS = 8
"""Most groups in one read."""

MOST_KEPT_GROUPS = 16
"""Most cached groups; the group that was read longest ago is dropped."""

MOST_CALLS = 60
"""Most calls to CloudWatch Logs in a minute: its quota is 5 to 10 a second, which other tools of the account share."""

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class LatestLook:
    """The result of one read.

    Args:
        samples: the latest requests of the functions, newest first.
        read: functions whose logs were read.
        of: requested functions.
        missing: functions without a log group.
        is_cut: whether a span has more lines than were read, or this minute's calls are used up.
    """

    samples: tuple[Sample, ...]
    read: int
    of: int
    missing: tuple[str, ...] = ()
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of a log group to read, in seconds since 1970; `token` continues a partly read one."""

    start_s: float
    end_s: float
    token: str = ""


@dataclass(slots=True)
class _Group:
    """The cached part of one log group: the requests from `low_s` to `high_s`, by the identifiers of their events.

    `rest` is the span that the last read did not finish.
    """

    name: str
    grouping: str
    low_s: float
    high_s: float = 0.0
    looked_s: float = 0.0
    is_cut: bool = False
    is_full: bool = False
    rest: _Span | None = None
    samples: dict[str, Sample] = field(default_factory=dict)


class LatestRequests:
    """The latest logged requests of a stack's functions. Thread-safe.

    Args:
        client: `boto3.client("logs")` in the functions' account and region.
        clock: seconds since 1970.
    """

    def __init__(self, client: Any, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._groups: dict[str, _Group] = {}
        self._calls: deque[float] = deque()
        self._grouping = LOG_GROUPINGS[0]
        self._lock = threading.Lock()
        self._pools: Mapping[str, str] = {}

    def read(self, functions: Sequence[str], pools: Mapping[str, str] | None = None) -> LatestLook:
        """Return the latest requests of functions, which are ordered by importance: only some log groups are read.

        Args:
            functions: functions of versions, by the names that they would have without pools.
            pools: for those in a pool, name -> the pool's function, which logs for them.

        Raises:
            ObservationError: CloudWatch Logs cannot be read.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        with self._lock:
            try:
                self._pools = pools or {}
                return self._read(functions)
            except (BotoCoreError, ClientError) as error:
                hint = "This needs logs:FilterLogEvents for the functions' log groups."
                raise ObservationError(f"CloudWatch Logs cannot be read: {error}".rstrip("."), hint) from error

    def kept(self) -> list[Sample]:
        """Return all cached requests."""
        with self._lock:
            return [sample for group in self._groups.values() for sample in group.samples.values()]

    def _read(self, functions: Sequence[str]) -> LatestLook:
        now_s = self._clock()
        groups: dict[str, _Group] = {}
        absent: set[str] = set()
        wanted: set[tuple[str, str]] = set()
        missing: list[str] = []
        is_spent = False
        for function in functions:
            group = self._find(function, groups, absent, now_s)
            if group is not None:
                groups[group.name] = group
                wanted.add(split_function_name(function))
            elif not self._may_call():
                is_spent = True
            elif len(groups) < MOST_GROUPS:
                missing.append(function)
        samples = [
            sample
            for group in groups.values()
            for sample in group.samples.values()
            if (sample.model, sample.version) in wanted
        ]
        samples.sort(key=lambda sample: sample.time, reverse=True)
        is_cut = is_spent or any(group.is_cut for group in groups.values())
        return LatestLook(tuple(samples), len(wanted), len(functions), tuple(missing), is_cut)

    def _find(self, function: str, read: Mapping[str, _Group], absent: set[str], now_s: float) -> _Group | None:
        """Return the group that a function writes to, after reading it.

        None if there is none, or no more may be read.
        """
        for grouping in sorted(LOG_GROUPINGS, key=lambda grouping: grouping != self._grouping):
            name = log_group_name(self._pools.get(function, function), grouping)
            if name in read:
                return read[name]
            is_allowed = name in self._groups or self._may_call()
            if name in absent or len(read) == MOST_GROUPS or not is_allowed:
                continue
            try:
                group = self._look(name, grouping, function.partition("_")[0], now_s)
            except self._client.exceptions.ResourceNotFoundException:
                absent.add(name)
                self._groups.pop(name, None)
            else:
                self._grouping = grouping
                return group
        return None

    def _look(self, name: str, grouping: str, prefix: str, now_s: float) -> _Group:
        group = self._groups.pop(name, None)
        if group is None or now_s - group.looked_s > FORGET_S:
            group = _Group(name, grouping, low_s=now_s)
        self._groups[name] = group  # keeps the groups in the order in which they were last queried
        if now_s - group.looked_s < REFRESH_S:
            return group
        while len(self._groups) > MOST_KEPT_GROUPS:
            del self._groups[next(iter(self._groups))]
        left, group.is_cut = MOST_PAGES, False
        for span in _spans(group, now_s):
            events: dict[str, tuple[int, str]] = {}
            token, first_left = span.token, left
            while left and self._may_call():
                page = self._ask(name, span, token)
                left -= 1
                events |= {event["eventId"]: (event["timestamp"], event["message"]) for event in page["events"]}
                if not (token := page.get("nextToken", "")):
                    break
            if left == first_left:
                group.is_cut = True
                break
            _keep(group, prefix, events, self._pools)
            group.low_s, group.high_s = min(group.low_s, span.start_s), max(group.high_s, span.end_s)
            group.rest = replace(span, token=token) if token else None
            group.is_cut = bool(token) and not group.is_full
            if token:
                break
        group.looked_s = now_s
        return group

    def _ask(self, name: str, span: _Span, token: str) -> Mapping[str, Any]:
        """Return one page of lines with captured requests."""
        self._calls.append(self._clock())
        page: Mapping[str, Any] = self._client.filter_log_events(
            logGroupName=name,
            startTime=round(span.start_s * 1000),
            endTime=round(span.end_s * 1000),
            filterPattern=CAPTURE_KEY,
            **({"nextToken": token} if token else {}),
        )
        return page

    def _may_call(self) -> bool:
        now_s = self._clock()
        while self._calls and now_s - self._calls[0] >= _MINUTE_S:
            self._calls.popleft()
        return len(self._calls) < MOST_CALLS


def _spans(group: _Group, now_s: float) -> Iterator[_Span]:
    """Yield the spans to read: the newest first, then further back while there are too few requests."""
    if group.high_s:
        rest = group.rest
        yield _Span(group.high_s - LATE_S, now_s)
        if rest and not group.is_full:
            yield rest
    for span_s in SPANS_S:
        if now_s - span_s < group.low_s and not group.is_full:
            yield _Span(now_s - span_s, group.low_s)


def _keep(group: _Group, prefix: str, events: Mapping[str, tuple[int, str]], pools: Mapping[str, str]) -> None:
    """Cache the latest requests among the cached ones and the new lines; only the latest lines are parsed."""
    new: dict[str, Sample] = {}
    for key, (_, message) in sorted(events.items(), key=lambda event: event[1][0], reverse=True):
        if len(new) >= MOST_OF_GROUP:
            break
        if key not in group.samples and (sample := _parse(message)) and _is_own(sample, group, prefix, pools):
            new[key] = sample
    merged = sorted({**group.samples, **new}.items(), key=lambda entry: entry[1].time, reverse=True)
    sizes = accumulate(len(sample.body) for _, sample in merged)
    group.samples = dict(entry for entry, size in zip(merged, sizes, strict=True) if size <= MOST_GROUP_BYTES)
    group.is_full = len(group.samples) < len(merged) or len(merged) >= MOST_OF_GROUP
    for key in [*group.samples][MOST_OF_GROUP:]:
        del group.samples[key]


def _parse(message: str) -> Sample | None:
    """Return the request in a line; None for any other or a truncated line."""
    with suppress(CaptureError):
        for line in read_lines([message.encode()]):
            for sample in line.samples:
                return sample
    return None


def _is_own(sample: Sample, group: _Group, prefix: str, pools: Mapping[str, str]) -> bool:
    """Whether a request's function writes to the group of the line: models print lines, too."""
    function = function_name(prefix, sample.model, sample.version)
    return log_group_name(pools.get(function, function), group.grouping) == group.name
