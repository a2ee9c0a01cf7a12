"""Sends captured requests again to one version or to two, side by side.

Versions are called by their own paths, which every stage has and no canary changes. A capture contains no answers: a
single version is compared with the one that answered then. That version is immutable, so it gives the same answer
again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from http import HTTPStatus

import orjson

from turnout.client.captured_lines import Sample
from turnout.client.connection import INFERENCE_TIMEOUT_S, ApiAnswer, ApiConnection, UnreachableError, inference_path
from turnout.client.outputs import PREDICTIONS, UnreadableAnswerError, read_outputs
from turnout.client.refusals import find_hint
from turnout.loopback import is_loopback_url
from turnout.manifest.judgement import OutputRule
from turnout.protocol.naming import DIGEST_HEADER, REPLAY_HEADER
from turnout.protocol.tensors.datatypes import Array
from turnout.replay.comparison import Comparison, compare_outputs
from turnout.replay.signed_requests import Sign
from turnout.system.service_tokens import service_headers

THROTTLED_WAITS_S = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses after answers of 429 before the request is sent again: the stage's throttle says nothing about a version."""

REPLAYS_PATH = "/turnout/replay"
"""The path at which a local gateway returns the token for replayed requests."""

_UNPROVED = "1"

NO_VERDICTS = frozenset({0, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
"""Statuses that say nothing about a version: no answer, one by the stage's authorization, one by its throttle."""


@dataclass(frozen=True, slots=True)
class SampleReply:
    """One version's reply to a sample.

    Args:
        status: status of the answer, 0 if there was none.
        duration_ms: duration measured by the client.
        outputs: name -> array, if the request was answered; else None.
        error: reason if there are no outputs, or empty.
        digest: digest of the artifact that answered, from the server; empty if it sends none.
        hint: remedy for a refusal by API Gateway, or empty.
    """

    status: int
    duration_ms: float
    outputs: Mapping[str, Array] | None = None
    error: str = ""
    digest: str = ""
    hint: str = ""

    @property
    def is_verdict(self) -> bool:
        """Whether it says something about the version: the absence of an answer or an answer by its stage does not."""
        return self.status not in NO_VERDICTS


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample and its replies.

    Args:
        number: number of its line in the capture.
        sample: as captured.
        canary: reply of the version to judge.
        baseline: reply of the version that it is compared with; None if that is the same version.
        comparison: comparison of both outputs; None unless both answered.
        versions: names of the baseline and of the version to judge.
    """

    number: int
    sample: Sample
    canary: SampleReply
    baseline: SampleReply | None
    comparison: Comparison | None
    versions: tuple[str, str]

    @property
    def agrees(self) -> bool | None:
        """Return whether the two agree; None if that is unknown.

        A version that rejects or fails a request that the other answers disagrees with it. If both do, or a reply says
        nothing about its version, the result is unknown.
        """
        if self.baseline is None or not (self.baseline.is_verdict and self.canary.is_verdict):
            return None
        if self.comparison is not None:
            return self.comparison.agrees
        return None if self.baseline.outputs is None and self.canary.outputs is None else False


class Replay:
    """Sends samples of one model.

    Args:
        url: address of the server.
        model: model whose samples are sent; others are skipped.
        canary: the version to judge.
        baseline: the version that it is compared with; empty for the one that answered when the sample was captured.
        stage: stage of the paths; empty for the server's first one.
        headers: headers of each request, such as an API key.
        rules: output -> rule for when two of its values agree.
        sign: signs each request, or None.
        concurrency: number of samples sent at once; both versions are called with a sample one after the other.
        sleep: waits for a number of seconds.

    Raises:
        ValueError: `url` is not an address.
    """

    def __init__(
        self,
        url: str,
        model: str,
        canary: str,
        baseline: str = "",
        *,
        stage: str = "",
        headers: Mapping[str, str] | None = None,
        rules: Mapping[str, OutputRule] | None = None,
        sign: Sign | None = None,
        concurrency: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        ApiConnection(url).close()
        self._url = url
        self._model = model
        self._canary = canary
        self._baseline = baseline
        self._stage = stage
        self._headers = headers or {}
        self._rules = dict(rules or {})
        if len(self._rules) == 1:
            # Unnamed rows do not name their output; if the manifest has only one, it is that one.
            self._rules.setdefault(PREDICTIONS, *self._rules.values())
        self._sign = sign
        self._concurrency = concurrency
        self._sleep = sleep
        self._connections: list[ApiConnection] = []
        self._own = threading.local()

    def run(self, samples: Iterable[tuple[int, Sample]]) -> Iterator[Pair]:
        """Yield a pair for each of the model's samples, in their order; only a few are in memory at a time.

        Args:
            samples: each with the number of its line.
        """
        waiting: deque[Future[Pair]] = deque()
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="replay") as threads:
            try:
                for number, sample in samples:
                    if sample.model == self._model:
                        waiting.append(threads.submit(self._replay, number, sample))
                    if len(waiting) > 2 * self._concurrency:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def ask(self, version: str, sample: Sample) -> ApiAnswer:
        """Return a version's answer to a sample, whatever its status.

        Raises:
            UnreachableError: there is none.
        """
        connection = self._connection()
        path = inference_path(self._model, version, self._stage)
        sample = without_version(sample)
        headers = {**sample.headers, **self._headers}

        def send() -> ApiAnswer:
            signed = self._sign(path, sample.body, headers) if self._sign else headers
            return connection.request("POST", path, sample.body, signed)

        for wait_s in THROTTLED_WAITS_S:
            answer = send()
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                return answer
            self._sleep(wait_s)
        return send()

    def _connection(self) -> ApiConnection:
        """Return the calling thread's own connection."""
        connection: ApiConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = ApiConnection(self._url, timeout_s=INFERENCE_TIMEOUT_S)
            self._connections.append(connection)
        return connection

    def _replay(self, number: int, sample: Sample) -> Pair:
        against = self._baseline or sample.version
        if against == self._canary:
            return Pair(number, sample, self._reply(self._canary, sample), None, None, (against, against))
        # Alternate the order, so that neither version always benefits from a cache that the other has warmed.
        versions = (against, self._canary) if number % 2 else (self._canary, against)
        replies = {version: self._reply(version, sample) for version in versions}
        baseline, canary = replies[against], replies[self._canary]
        comparison = None
        if baseline.outputs is not None and canary.outputs is not None:
            comparison = compare_outputs(baseline.outputs, canary.outputs, self._rules)
        return Pair(number, sample, canary, baseline, comparison, (against, self._canary))

    def _reply(self, version: str, sample: Sample) -> SampleReply:
        try:
            answer = self.ask(version, sample)
        except UnreachableError as error:
            return SampleReply(0, 0.0, error=str(error))
        digest = answer.headers.get(DIGEST_HEADER, "")
        if answer.status != HTTPStatus.OK:
            problem = answer.body[:500].decode(errors="replace")
            hint = find_hint(answer.headers, is_listed=True)
            return SampleReply(answer.status, answer.elapsed_ms, error=problem, digest=digest, hint=hint)
        try:
            return SampleReply(
                answer.status, answer.elapsed_ms, read_outputs(answer.headers, answer.body), digest=digest
            )
        except UnreadableAnswerError as error:
            return SampleReply(answer.status, answer.elapsed_ms, error=str(error), digest=digest)


def replay_headers(url: str, api_key: str = "", token: str = "") -> dict[str, str]:
    """Return the headers of requests that are sent again: the token of a replay, and the API key if there is one.

    A gateway on this machine recognizes replayed requests by a secret that it gives to local programs. Elsewhere the
    header only declares requests as replayed: functions on AWS trust it only where it hides nothing.
    """
    key = {"x-api-key": api_key} if api_key else {}
    return {REPLAY_HEADER: _fetch_token(url, token) if is_loopback_url(url) else _UNPROVED, **key}


def _fetch_token(url: str, token: str) -> str:
    try:
        with closing(ApiConnection(url)) as connection:
            answer = connection.request("GET", REPLAYS_PATH, headers=service_headers(token))
        return str(orjson.loads(answer.body)["mark"]) if answer.status == HTTPStatus.OK else _UNPROVED
    except (UnreachableError, ValueError, KeyError, TypeError):
        return _UNPROVED


def without_version(sample: Sample) -> Sample:
    """Return the sample without `model_version`.

    Clients of the protocol may send it, and another version would reject it.
    """
    if b'"model_version"' not in sample.body:
        return sample
    end = len(sample.body) if sample.header_length is None else sample.header_length
    try:
        document = orjson.loads(sample.body[:end])
    except orjson.JSONDecodeError:
        return sample
    if not isinstance(document, dict):
        return sample
    document.pop("model_version", None)
    head = orjson.dumps(document)
    length = None if sample.header_length is None else len(head)
    return replace(sample, header_length=length, body=head + sample.body[end:])
