"""The Runtime API over bytes, without processes: a client's data in one piece or in many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from turnout.gateway.functions.invocation import LARGEST_ANSWER_BYTES, Invocation
from turnout.gateway.functions.isolated.runtime_api import RuntimeApi, RuntimeCall, request_id_of, trace_of
from turnout.gateway.functions.isolated.runtime_connection import LARGEST_HEAD_BYTES, RuntimeConnection

EVENT = {"requestContext": {"requestId": "abc-1"}, "headers": {"X-Amzn-Trace-Id": "Root=1-2-3"}, "body": "é"}
ASK = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
ROOT = "/2018-06-01/runtime"
ANSWER = b'{"statusCode": 200}'


class Owner:
    """Records its notifications."""

    def __init__(self) -> None:
        self.ready_times = 0
        self.left_times = 0
        self.answers: list[Invocation] = []
        self.reasons: list[str] = []

    def ready(self, api: RuntimeApi) -> None:
        self.ready_times += 1

    def answered(self, api: RuntimeApi, call: RuntimeCall, invocation: Invocation) -> None:
        self.answers.append(invocation)

    def left(self, api: RuntimeApi) -> None:
        self.left_times += 1

    def broken(self, api: RuntimeApi, reason: str) -> None:
        self.reasons.append(reason)


class Transport(asyncio.Transport):
    """Stores what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def take(self) -> tuple[int, bytes]:
        """Return status and body of the only answer that was written."""
        head, _, body = self.written.partition(b"\r\n\r\n")
        self.written = b""
        assert head.startswith(b"HTTP/1.1 "), head
        assert f"Content-Length: {len(body)}".encode() in head
        return int(head.split()[1]), body


class Bench:
    """One environment's API with one connection."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.api = RuntimeApi(self.owner)
        self.connections: set[RuntimeConnection] = set()
        self.connection, self.transport = self.connect()

    def connect(self) -> tuple[RuntimeConnection, Transport]:
        connection, transport = RuntimeConnection(self.api, self.connections), Transport()
        connection.connection_made(transport)
        return connection, transport

    def send(self, data: bytes, piece_bytes: int = 1 << 30) -> None:
        for start in range(0, len(data), piece_bytes):
            self.connection.data_received(data[start : start + piece_bytes])

    def deliver(self) -> RuntimeCall:
        """Deliver a call to the process."""
        call = make_call()
        self.api.assign(call)
        if not call.delivered:
            self.send(ASK)
        assert self.transport.take()[0] == 200
        return call


def make_call() -> RuntimeCall:
    return RuntimeCall(b"arn:aws:lambda:local:0:function:f:live", EVENT, 10.0, 5.0)


def post(path: str, body: bytes = ANSWER, length: object = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\ncontent-length: {size}\r\nA: b\r\n\r\n".encode() + body


@pytest.fixture
def play() -> Callable[[Callable[[Bench], None]], None]:
    def run(scenario: Callable[[Bench], None]) -> None:
        async def inside() -> None:
            scenario(Bench())

        asyncio.run(inside())

    return run


Play = Callable[[Callable[[Bench], None]], None]


def test_an_event_is_sent_with_the_headers_of_lambda(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        bench.send(ASK)
        assert (bench.transport.written, bench.owner.ready_times) == (b"", 1)
        bench.api.assign(make_call())
        head = bench.transport.written.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert "Lambda-Runtime-Aws-Request-Id: abc-1" in head
        assert "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:local:0:function:f:live" in head
        assert "Lambda-Runtime-Trace-Id: Root=1-2-3" in head
        assert any(line.startswith("Lambda-Runtime-Deadline-Ms: 1") for line in head)
        assert orjson.loads(bench.transport.take()[1]) == EVENT

    play(scenario)


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 1 << 30])
def test_an_answer_is_read_in_any_chunks(play: Play, piece_bytes: int) -> None:
    def scenario(bench: Bench) -> None:
        for _ in range(3):
            bench.deliver()
            bench.send(post(f"{ROOT}/invocation/abc-1/response"), piece_bytes)
            assert bench.transport.take()[0] == 202
            bench.send(ASK, piece_bytes)
        assert [one.answer for one in bench.owner.answers] == [{"statusCode": 200}] * 3
        assert not bench.transport.closed

    play(scenario)


def test_a_call_assigned_before_the_process_asks_is_delivered_when_it_does(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        call = make_call()
        bench.api.assign(call)
        assert not call.delivered
        bench.send(ASK)
        assert call.delivered
        assert bench.owner.ready_times == 0
        assert bench.api.started

    play(scenario)


ERROR = orjson.dumps({"errorType": "ValueError", "errorMessage": "odd", "stackTrace": []})
MEMORY = orjson.dumps({"errorType": "_ArrayMemoryError", "errorMessage": "Unable to allocate", "stackTrace": []})

# path, body -> status, the call's outcome for the owner, why the environment is no longer usable
POSTS = [
    pytest.param("invocation/abc-1/response", ANSWER, 202, [None], [], id="answer"),
    pytest.param("invocation/abc-1/response", b"{NaN", 202, ["failed"], [], id="answer-not-json"),
    pytest.param("invocation/abc-1/error", ERROR, 202, ["failed"], [], id="error"),
    pytest.param("invocation/abc-1/error", b"[1]", 202, ["failed"], [], id="error-unreadable"),
    pytest.param("invocation/abc-1/error", MEMORY, 202, [], ["Runtime.OutOfMemory: _Arr"], id="error-of-memory"),
    pytest.param("invocation/abc-1/other", ANSWER, 404, [], [], id="unknown-verb"),
    pytest.param("invocation/abc-2/response", ANSWER, 400, [], [], id="foreign-id"),
    pytest.param("invocation/next", ANSWER, 400, [], [], id="post-to-next"),
    pytest.param("init/error", ERROR, 403, [], [], id="init-error-after-init"),
    pytest.param("restore/error", ERROR, 404, [], [], id="unknown-path"),
]


@pytest.mark.parametrize(("path", "body", "status", "errors", "reasons"), POSTS)
def test_a_post_affects_only_its_own_call(
    play: Play, path: str, body: bytes, status: int, errors: list[Any], reasons: list[str]
) -> None:
    def scenario(bench: Bench) -> None:
        call = bench.deliver()
        bench.send(post(f"{ROOT}/{path}", body))
        assert bench.transport.take()[0] == status
        assert [one.error for one in bench.owner.answers] == errors
        assert [
            reason[: len(expected)] for reason, expected in zip(bench.owner.reasons, reasons, strict=True)
        ] == reasons
        assert bench.api.call is (None if errors else call)

    play(scenario)


def test_an_answer_without_a_call_is_rejected(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        bench.api.assign(make_call())  # not delivered
        bench.send(post(f"{ROOT}/invocation/abc-1/response"))
        assert bench.transport.take()[0] == 400
        assert bench.owner.answers == []

    play(scenario)


def test_a_failed_init_is_reported_with_its_reason(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        bench.send(post(f"{ROOT}/init/error", ERROR))
        assert bench.transport.take()[0] == 202
        assert bench.owner.reasons == ["ValueError: odd"]

    play(scenario)


def test_asking_for_a_call_during_a_call_or_twice_is_rejected(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        bench.deliver()
        bench.send(ASK)
        assert bench.transport.take()[0] == 403
        bench.send(post(f"{ROOT}/invocation/abc-1/response"))
        bench.transport.take()
        bench.send(ASK)
        _, other = pair = bench.connect()
        pair[0].data_received(ASK)
        assert other.take()[0] == 403
        assert bench.transport.written == b"", "the first one still waits"

    play(scenario)


REFUSED = [
    pytest.param(b"\x16\x03\x01 rubbish\r\n\r\n", 400, id="no-http"),
    pytest.param(b"PUT / HTTP/1.1\r\n\r\n", 400, id="unknown-method"),
    pytest.param(b"GET /metrics HTTP/1.1\r\n\r\n", 404, id="unknown-path"),
    pytest.param(b"POST /x HTTP/1.1\r\nHost: x\r\n\r\n", 411, id="no-length"),
    pytest.param(b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411, id="negative-length"),
    pytest.param(b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, id="chunked"),
    pytest.param(b"x" * (LARGEST_HEAD_BYTES + 1), 431, id="endless-head"),
    pytest.param(post("/x", b"", LARGEST_ANSWER_BYTES + 1), 413, id="too-large"),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
@pytest.mark.parametrize("piece_bytes", [4096, 1 << 30])
def test_an_invalid_request_is_rejected_and_the_connection_closed(
    play: Play, data: bytes, status: int, piece_bytes: int
) -> None:
    def scenario(bench: Bench) -> None:
        bench.send(data, piece_bytes)
        assert bench.transport.take()[0] == status
        assert bench.transport.closed
        bench.send(ASK)
        assert bench.transport.written == b"", "nobody reads on"
        assert bench.owner.reasons == []

    play(scenario)


def test_an_answer_that_is_too_large_ends_its_call_and_the_environment(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        bench.deliver()
        bench.send(post(f"{ROOT}/invocation/abc-1/response", b"", LARGEST_ANSWER_BYTES + 1))
        assert bench.transport.take()[0] == 413
        assert [one.error for one in bench.owner.answers] == ["too_large"]
        assert len(bench.owner.reasons) == 1

    play(scenario)


def test_the_largest_answer_is_accepted(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        bench.deliver()
        body = b'"' + b"x" * (LARGEST_ANSWER_BYTES - 2) + b'"'
        bench.send(post(f"{ROOT}/invocation/abc-1/response", body), 65_536)
        assert bench.transport.take()[0] == 202
        assert bench.owner.answers[0].error is None

    play(scenario)


def test_a_closed_connection_is_reported_only_if_it_was_waiting(play: Play) -> None:
    def scenario(bench: Bench) -> None:
        other, _ = bench.connect()
        other.connection_lost(None)
        assert bench.owner.left_times == 0
        bench.send(ASK)
        bench.connection.connection_lost(None)
        assert bench.owner.left_times == 1
        bench.api.assign(make_call())
        assert bench.transport.written == b""
        assert bench.connections == set()

    play(scenario)


@pytest.mark.parametrize(
    "event",
    [{}, {"requestContext": None}, {"requestContext": {"requestId": 7}}, {"requestContext": {"requestId": "a/b\r\n"}}],
)
def test_an_event_without_a_usable_id_gets_one(event: dict[str, Any]) -> None:
    assert len(request_id_of(event)) == 36


@pytest.mark.parametrize("trace", [None, 7, "a\r\nb: c", "é", "x" * 2000])
def test_a_trace_that_does_not_fit_in_a_header_is_left_out(trace: Any) -> None:
    assert trace_of({"headers": {"X-Amzn-Trace-Id": trace}}) == b""
    assert trace_of({}) == trace_of({"headers": None}) == b""
