"""Captured requests sent again, to a real server with configured answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from turnout.canary.agreement import replay_pair
from turnout.canary.judging.observed import AgreementCounts
from turnout.canary.observation.samples import fetch_samples
from turnout.client.captured_lines import Sample
from turnout.client.connection import UnreachableError
from turnout.client.refusals import OLDER_SERVER
from turnout.protocol.codecs.samples import write_line
from turnout.replay.comparison import OutputRule
from turnout.replay.replay import THROTTLED_WAITS_S, Pair, Replay, without_version

Answering = Callable[[str, Any], tuple[int, Any]]


class Server(ThreadingHTTPServer):
    """Answers with the result of `answering` for a path and a body; records the requests."""

    answering: Answering
    asked: list[tuple[str, dict[str, str]]]
    kind: str = ""
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, dict(self.headers)))
        status, answer = self.server.answering(self.path, json.loads(body or b"null"))
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if self.server.kind:
            self.send_header("x-amzn-ErrorType", self.server.kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.answering = differ
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def differ(path: str, body: Any) -> tuple[int, Any]:
    """Both versions return their input, but v2 never returns less than 0."""
    values = body["instances"]
    return 200, {"predictions": [max(0, value) for value in values] if "/v2/" in path else values}


def sample(value: Any, version: str = "v1", model: str = "iris") -> Sample:
    body = orjson.dumps({"instances": [value]})
    return Sample(1.5, "prod", model, version, False, "application/json", None, body, 200, 1.0)


def replayed(server: Server, samples: list[Sample], baseline: str = "", **more: Any) -> list[Pair]:
    with closing(Replay(url_of(server), "iris", "v2", baseline, **more)) as replay:
        return list(replay.run(enumerate(samples, 1)))


def test_each_sample_of_the_model_is_sent_to_both_versions(server: Server) -> None:
    samples = [sample(value) for value in range(-3, 4)]
    pairs = replayed(server, [*samples, sample(9, model="other")], "v1", stage="prod", headers={"x-api-key": "k"})
    assert [pair.number for pair in pairs] == list(range(1, 8))
    assert [pair.sample for pair in pairs] == samples
    assert [pair.agrees for pair in pairs] == [False] * 3 + [True] * 4
    assert {path for path, _ in server.asked} == {f"/prod/models/iris/{name}/inference" for name in ("v1", "v2")}
    assert len(server.asked) == 14
    assert {headers["x-api-key"] for _, headers in server.asked} == {"k"}
    assert all(pair.canary.duration_ms > 0 for pair in pairs)


def test_one_version_is_compared_with_the_version_that_answered(server: Server) -> None:
    pairs = replayed(server, [sample(-1, "v1"), sample(-1, "v2"), sample(-1, "v3")])
    assert [pair.agrees for pair in pairs] == [False, None, False]
    assert pairs[1].baseline is None
    assert sorted(path.split("/")[3] for path, _ in server.asked) == ["v1", "v2", "v2", "v2", "v3"]


def test_neither_version_is_always_called_first(server: Server) -> None:
    replayed(server, [sample(1), sample(1)], "v1", concurrency=1)
    assert [path.split("/")[3] for path, _ in server.asked] == ["v1", "v2", "v2", "v1"]


@pytest.mark.parametrize("name", ["predictions", "y"])
def test_the_rules_decide_the_comparison(name: str, server: Server) -> None:
    """Unnamed rows do not name their output: the only rule applies to them."""
    pairs = replayed(server, [sample(-3), sample(-2)], "v1", rules={name: OutputRule("absolute", 2.0)})
    assert [pair.agrees for pair in pairs] == [False, True]


@pytest.mark.parametrize(
    ("statuses", "agrees"),
    [
        ({"v1": 200, "v2": 500}, False),
        ({"v1": 400, "v2": 200}, False),
        ({"v1": 400, "v2": 400}, None),
        ({"v1": 200, "v2": 429}, None),
        ({"v1": 200, "v2": 403}, None),
        ({"v1": 401, "v2": 200}, None),
    ],
)
def test_a_request_rejected_by_only_one_version_is_a_disagreement(
    statuses: dict[str, int], agrees: bool | None, server: Server
) -> None:
    server.answering = lambda path, body: (statuses[path.split("/")[3]], {"predictions": [1], "error": "no"})
    (pair,) = replayed(server, [sample(1)], "v1", sleep=lambda _: None)
    assert pair.agrees is agrees


def test_an_unreadable_answer_is_not_an_answer(server: Server) -> None:
    server.answering = lambda path, body: (200, b"<html>" if "/v2/" in path else {"predictions": [1]})
    (pair,) = replayed(server, [sample(1)], "v1")
    assert pair.agrees is False
    assert "does not follow the protocol" in pair.canary.error


def test_a_throttled_request_is_sent_again_later(server: Server) -> None:
    waited: list[float] = []
    server.answering = lambda path, body: (200 if len(server.asked) > 2 else 429, {"predictions": [1]})
    (pair,) = replayed(server, [sample(1, "v2")], sleep=waited.append)
    assert pair.canary.status == 200
    assert waited == list(THROTTLED_WAITS_S[:2])


def test_a_missing_answer_has_the_status_0() -> None:
    with closing(Replay("http://127.0.0.1:1", "iris", "v2", "v1")) as replay:
        (pair,) = replay.run([(1, sample(1))])
    assert (pair.canary.status, pair.agrees) == (0, None)
    assert "no server listens" in pair.canary.error


def test_samples_are_read_as_they_are_needed(server: Server) -> None:
    read = 0

    def samples() -> Iterator[tuple[int, Sample]]:
        nonlocal read
        for read in range(1, 1001):
            yield read, sample(1)

    with closing(Replay(url_of(server), "iris", "v2", "v1", concurrency=2)) as replay:
        pairs = replay.run(samples())
        next(pairs)
        assert read < 20
        pairs.close()  # type: ignore[attr-defined]


def test_replay_pair_counts_what_was_compared(server: Server) -> None:
    samples = [sample(-1), sample(1), sample(2), sample(5, model="other")]
    assert replay_pair(url_of(server), samples, "iris", "v1", "v2") == AgreementCounts(3, 2)
    assert replay_pair(url_of(server), [], "iris", "v1", "v2") == AgreementCounts(0, 0)


def test_replay_pair_reports_the_response_that_is_no_answer(server: Server) -> None:
    server.answering = lambda path, body: (403, {"message": "Forbidden"})
    reported = 'HTTP 403: {"message": "Forbidden"}'
    assert replay_pair(url_of(server), [sample(1)], "iris", "v1", "v2") == AgreementCounts(0, 0, reported)


def test_replay_pair_explains_a_rejection(server: Server) -> None:
    server.answering, server.kind = lambda path, body: (403, {}), "MissingAuthenticationTokenException"
    counts = replay_pair(url_of(server), [sample(1)], "iris", "v1", "v2")
    assert counts.note == f"HTTP 403: {{}}: {OLDER_SERVER}"


def test_replay_pair_reports_an_unreachable_server() -> None:
    with pytest.raises(UnreachableError, match="no server listens"):
        replay_pair("http://127.0.0.1:1", [sample(1)], "iris", "v1", "v2")


def test_samples_are_fetched_from_a_gateway(server: Server) -> None:
    one = sample(1)
    server.answering = lambda path, body: (200, b'{"samples":[' + write_line(one) + b"]}")
    assert fetch_samples(url_of(server), "prod", 7) == [one]
    assert server.asked[0][0] == "/turnout/samples?stage=prod&limit=7"


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]", b'{"samples": [1]}'])
def test_a_server_without_samples_is_reported(answer: bytes, server: Server) -> None:
    server.answering = lambda path, body: (404, answer)
    with pytest.raises(UnreachableError, match="returned no samples: HTTP 404"):
        fetch_samples(url_of(server), "prod")


def test_an_invalid_address_is_rejected() -> None:
    with pytest.raises(ValueError, match="not an address"):
        Replay("localhost", "iris", "v2")


@pytest.mark.parametrize(
    ("body", "length", "expected", "expected_length"),
    [
        (b'{"model_version":"v1","a":1}', None, b'{"a":1}', None),
        (b'{"model_version":"v1","a":1}\x01"model_version"', 28, b'{"a":1}\x01"model_version"', 7),
        (b'{"a": 1}', None, b'{"a": 1}', None),
        (b'["model_version"]', None, b'["model_version"]', None),
        (b'{"model_version"', None, b'{"model_version"', None),
    ],
)
def test_a_sample_is_sent_without_a_version(
    body: bytes, length: int | None, expected: bytes, expected_length: int | None
) -> None:
    captured = replace(sample(1), body=body, header_length=length)
    assert without_version(captured) == replace(captured, body=expected, header_length=expected_length)
