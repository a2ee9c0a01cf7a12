"""Arbitrary bytes in arbitrary pieces and any order of events: the server answers, closes or waits within its limits,
in order.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.builders.http_server import Answer, collecting_errors, read_answer
from tests.builders.http_transport import Exchange, FakeTransport
from turnout.http_server.connection import Connection
from turnout.http_server.messages import Handler, Request, Response
from turnout.http_server.server import Limits, drain

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def exchanging(handle: Handler, limits: Limits | None = None) -> Iterator[Exchange]:
    with collecting_errors() as errors:
        exchange = Exchange(handle, limits)
        try:
            yield exchange
        finally:
            exchange.close()
    assert [record.getMessage() for record in errors] == []


def read_answers(sent: bytes, methods: list[str] | None = None) -> list[Answer]:
    """Return every answer in what was sent; fail if it is not a sequence of complete answers."""
    stream = io.BytesIO(sent)
    answers: list[Answer] = []
    asked = iter(methods or [])
    while stream.tell() < len(sent):
        continued = sent[stream.tell() :].startswith(b"HTTP/1.1 100 ")
        answers.append(read_answer(stream, head_only=not continued and next(asked, "") == "HEAD"))
    return answers


@dataclass
class Echo:
    """Answers immediately with the request's body."""

    seen: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(200, (("X-Path", request.path),), request.body)

    def requests_seen(self) -> list[tuple[object, ...]]:
        return [(each.method, each.path, each.query, tuple(each.headers), each.body) for each in self.seen]


# Arbitrary bytes.

WORDS = [
    b"GET ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT ", b"PRI ", b"/", b"/a?b#c", b"*",
    b"http://h/p", b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b"Host: h\r\n",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"abc",
    b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nT: u\r\nConnection: close\r\nUpgrade: x\r\n\r\n", b"3;a=b\r\n",
    b"\x16\x03\x01",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
]  # fmt: skip
STREAMS = st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS), st.binary(max_size=4)), max_size=14).map(
    b"".join
)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    ends = [*sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


POSITIONS = st.lists(st.integers(0, 1000), max_size=8)


@FUZZ
@given(STREAMS, POSITIONS)
def test_arbitrary_bytes_get_the_same_answers_in_any_pieces(data: bytes, positions: list[int]) -> None:
    results = []
    for pieces in ([data], cut(data, positions), [data[index : index + 1] for index in range(len(data))]):
        echo = Echo()
        with exchanging(echo) as exchange:
            for piece in pieces:
                exchange.feed(piece)
            answers = read_answers(exchange.sent, [each.method for each in echo.seen])
            results.append((echo.requests_seen(), [(each.status, each.body) for each in answers if each.status != 100]))
            refusals = [answer for answer in answers if answer.status not in {100, 200}]
            assert len(refusals) <= 1
            assert not refusals or (answers[-1] is refusals[0] and exchange.transport.wrote_eof)
            # Timeouts end everything that is left.
            for _ in range(4):
                exchange.wait(100)
            assert exchange.transport.closed
    assert results[0] == results[1] == results[2]


OTHER_VERSION = re.compile(rb"[\r\n]*[A-Z-]+ [^ \r\n]*( HTTP/(?!1\.[01])\d\.\d)?\r?\n")
"""A complete request line with another version, or with none as in HTTP/0.9: test_conformance.py tests its 505."""


@FUZZ
@given(st.binary(max_size=60), POSITIONS)
@example(b"CONNECT \n\r\n", [])
@example(b"GET / HTTP/0.9\r\n!:\r\n\r\n", [])
def test_random_bytes_end_in_an_answer_or_a_close(data: bytes, positions: list[int]) -> None:
    echo = Echo()
    with exchanging(echo) as exchange:
        for piece in cut(data, positions):
            exchange.feed(piece)
        allowed = {400, 505} if OTHER_VERSION.match(data) else {400}
        assert {answer.status for answer in read_answers(exchange.sent)} <= allowed
        for _ in range(4):
            exchange.wait(100)
        assert exchange.transport.closed
    assert echo.seen == []


# Valid requests: the handler sees what was sent.

TOKEN = st.text(st.sampled_from("abcXYZ019!#$%&'*+-.^_`|~"), min_size=1, max_size=8)
OWN = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "proxy-connection"}
VALUE = st.text(st.characters(codec="latin-1", exclude_characters="\x7f", min_codepoint=0x20), max_size=12)
PATH = st.text(st.sampled_from("abc%20/.~:@!$&'()*+,;=-_"), max_size=12)
QUERY = st.text(st.sampled_from("abc%20/.~:@!$&'()*+,;=-_?"), max_size=12)


@dataclass(frozen=True)
class Sent:
    """A request and its bytes."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    data: bytes

    def requests_seen(self) -> tuple[object, ...]:
        return (self.method, self.path, self.query, self.headers, self.body)


@st.composite
def requests(draw: st.DrawFn, slow: bool = False) -> Sent:
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "QUERY"]))
    path = draw(st.sampled_from(["/fast", "/slow"])) if slow else "/" + draw(PATH)
    query = draw(QUERY)
    body = draw(st.binary(max_size=1500 if slow else 40))
    headers = draw(st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in OWN), VALUE), max_size=4))
    headers.insert(draw(st.integers(0, len(headers))), (draw(st.sampled_from(["Host", "host", "HOST"])), "h:80"))
    framing = draw(st.sampled_from(["length", "chunked"] if body else ["none", "length", "chunked"]))
    payload = body
    if framing == "length":
        headers.append(("Content-Length", "0" * draw(st.integers(0, 2)) + str(len(body))))
    elif framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        size = draw(st.integers(1, 1500))
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b;c"']))
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        payload = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        payload += b"0\r\n" + draw(st.sampled_from([b"", b"T: u\r\n", b"T: u\r\nHost: v\r\n"])) + b"\r\n"
    space = draw(st.sampled_from(["", " ", " \t "]))
    lines = [f"{method} {path}{'?' * bool(query)}{query}{draw(st.sampled_from(['', '#f?g']))} HTTP/1.1"]
    for name, value in headers:
        # The parser accepts no tabs around the values that frame the body.
        around = space.replace("\t", " ") if name in {"Content-Length", "Transfer-Encoding"} else space
        lines.append(f"{name}:{around}{value}{around}")
    data = "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + payload
    fields = tuple((name, value.strip(" \t")) for name, value in headers)
    return Sent(method, path, query, fields, body, draw(st.sampled_from([b"", b"\r\n"])) + data)


@FUZZ
@given(st.lists(requests(), min_size=1, max_size=4), POSITIONS)
def test_handler_sees_what_was_sent(sent: list[Sent], positions: list[int]) -> None:
    echo = Echo()
    with exchanging(echo) as exchange:
        for piece in cut(b"".join(each.data for each in sent), positions):
            exchange.feed(piece)
        answers = read_answers(exchange.sent, [each.method for each in sent])
        assert echo.requests_seen() == [each.requests_seen() for each in sent]
        assert [answer.status for answer in answers] == [200] * len(sent)
        assert [answer.body for answer in answers] == [b"" if each.method == "HEAD" else each.body for each in sent]
        assert not exchange.transport.closing


@settings(FUZZ, max_examples=40)
@given(st.lists(requests(), min_size=1, max_size=2))
def test_handler_sees_what_was_sent_when_split_at_any_point(sent: list[Sent]) -> None:
    echo = Echo()
    data = b"".join(each.data for each in sent)
    with exchanging(echo) as exchange:
        for position in range(1, len(data)):
            exchange.feed(data[:position])
            exchange.feed(data[position:])
        assert echo.requests_seen() == [each.requests_seen() for each in sent] * (len(data) - 1)


# Any order of events.


@dataclass
class Slow:
    """Answers `/slow` when `finish` says so, everything else immediately."""

    loop: asyncio.AbstractEventLoop | None = None
    seen: list[Request] = field(default_factory=list)
    waiting: list[asyncio.Future[Response]] = field(default_factory=list)

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        assert not self.waiting, "two requests of one connection at a time"
        self.seen.append(request)
        if request.path == "/slow":
            assert self.loop is not None
            self.waiting.append(self.loop.create_future())
            return self.waiting[0]
        return Response(200, (), request.body)

    def finish(self) -> None:
        if self.waiting:
            self.waiting.pop().set_result(Response(200, (), self.seen[-1].body))


def actions_of(exchange: Exchange, slow: Slow) -> dict[str, Callable[[], None]]:
    """The events that may happen in any exchange, besides the arrival of bytes."""
    return {
        "finish": lambda: exchange.within(slow.finish),
        "stall": exchange.stall,
        "read": exchange.read,
        "tick": lambda: exchange.wait(0.5),
    }


def play(exchange: Exchange, data: bytes, events: list[int | str], actions: Mapping[str, Callable[[], None]]) -> bytes:
    """Let the events happen; a number means that this many bytes arrive. Return the bytes that have not arrived."""
    for event in events:
        if isinstance(event, int):
            exchange.feed(data[:event])
            data = data[event:]
        else:
            actions[event]()
    return data


EVENTS = st.lists(
    st.one_of(st.integers(1, 3000), st.sampled_from(["finish", "stall", "read", "tick"])), min_size=5, max_size=40
)


@FUZZ
@given(st.lists(requests(slow=True), min_size=1, max_size=6), EVENTS)
def test_answers_are_in_order_for_any_order_of_events(sent: list[Sent], events: list[int | str]) -> None:
    slow = Slow()
    data = b"".join(each.data for each in sent)
    with exchanging(slow) as exchange:
        slow.loop = exchange.loop
        exchange.feed(play(exchange, data, events, actions_of(exchange, slow)))
        for _ in sent:
            exchange.read()
            exchange.within(slow.finish)
        exchange.read()
        answers = read_answers(exchange.sent, [each.method for each in sent])
        assert [each.body for each in slow.seen] == [each.body for each in sent]
        assert [answer.body for answer in answers] == [b"" if each.method == "HEAD" else each.body for each in sent]
        assert exchange.transport.reading
        assert not exchange.transport.closing


@FUZZ
@given(
    STREAMS.map(lambda data: data.replace(b"GET / ", b"GET /slow ")),
    st.lists(
        st.one_of(
            st.integers(1, 60),
            st.sampled_from(["finish", "stall", "read", "tick", "long", "hang up", "drain", "abort"]),
        ),
        max_size=25,
    ),
)
@example(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n", [1, 30, "hang up"])
def test_any_sequence_of_events_ends(data: bytes, events: list[int | str]) -> None:
    slow = Slow()
    with exchanging(slow) as exchange:
        slow.loop = exchange.loop

        def drain() -> None:
            exchange.service.draining = True
            if not exchange.transport.closing:
                exchange.within(exchange.connection.drain)

        actions = actions_of(exchange, slow) | {
            "long": lambda: exchange.wait(100),
            "hang up": exchange.hang_up,
            "drain": drain,
            "abort": lambda: exchange.within(exchange.connection.abort),
        }
        play(exchange, data, events, actions)
        # The handler answers, as it must; then only time passes, whether the client reads or not.
        for _ in range(30):
            exchange.within(slow.finish)
            exchange.wait(100)
        assert exchange.transport.closed
        assert not exchange.service.tasks


# The time limits, to the second.


@pytest.mark.parametrize(
    ("sent", "limit_s", "answered"),
    [
        (b"", 20, b""),
        (b"GET / HTTP/1.1\r\n", 20, b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", 60, b"HTTP/1.1 408"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 75, b""),
    ],
)
def test_each_time_limit_is_exact(sent: bytes, limit_s: int, answered: bytes) -> None:
    with exchanging(lambda request: Response(200)) as exchange:
        exchange.feed(sent)
        before = exchange.sent
        exchange.wait(limit_s)
        assert exchange.sent == before
        assert not exchange.transport.closing
        exchange.wait(0.1)
        assert exchange.sent[len(before) :][:12] == answered
        assert exchange.transport.closing or exchange.transport.wrote_eof


def test_rejected_client_has_time_to_read_the_rejection() -> None:
    with exchanging(lambda request: Response(200)) as exchange:
        exchange.feed(b"nonsense")
        exchange.wait(5)
        assert not exchange.transport.closing
        exchange.wait(0.1)
        assert exchange.transport.closed


def test_unread_answer_is_kept_while_the_client_reads() -> None:
    with exchanging(lambda request: Response(200, (), bytes(100_000))) as exchange:
        exchange.stall()
        exchange.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        for _ in range(50):
            exchange.wait(20)
            del exchange.transport.unsent[:1000]
        assert not exchange.transport.closing
        exchange.wait(1)
        exchange.wait(30.1)
        assert exchange.transport.closed


# The stop.

PLAIN = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def begin_stop(exchange: Exchange) -> asyncio.Task[None]:
    stopping = exchange.loop.create_task(drain(exchange.service))
    exchange.within(lambda: None)
    return stopping


def test_request_that_follows_an_answer_during_the_stop_is_answered() -> None:
    with exchanging(lambda request: Response(200)) as exchange:
        exchange.feed(PLAIN)
        stopping = begin_stop(exchange)
        assert not exchange.transport.closing
        exchange.feed(PLAIN)
        assert [answer.header("connection") for answer in read_answers(exchange.sent)] == [None, "close"]
        assert exchange.transport.closing
        exchange.loop.run_until_complete(asyncio.wait_for(stopping, 60))


def test_connection_without_a_request_is_closed_soon_after_the_stop_started() -> None:
    with exchanging(lambda request: Response(200)) as exchange:
        exchange.feed(PLAIN)
        exchange.loop.run_until_complete(asyncio.wait_for(begin_stop(exchange), 20))
        assert exchange.transport.closed


@pytest.mark.parametrize("asked", [False, True])
def test_connection_that_was_idle_for_long_is_closed_when_the_stop_starts(asked: bool) -> None:
    with exchanging(lambda request: Response(200)) as exchange:
        if asked:
            exchange.feed(PLAIN)
        exchange.wait(2)
        exchange.loop.run_until_complete(asyncio.wait_for(begin_stop(exchange), 60))
        assert exchange.transport.closed


@pytest.mark.parametrize("idle_s", [0, 10])
def test_request_that_arrived_unread_before_the_stop_is_answered(idle_s: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, exchanging(lambda request: Response(200)) as exchange:
        exchange.transport.socket = ours
        exchange.wait(idle_s)
        theirs.sendall(PLAIN)
        stopping = begin_stop(exchange)
        assert not exchange.transport.closing
        exchange.feed(ours.recv(1000))
        assert [answer.header("connection") for answer in read_answers(exchange.sent)] == ["close"]
        exchange.loop.run_until_complete(asyncio.wait_for(stopping, 60))


def test_new_connection_with_a_request_during_the_stop_is_answered() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, exchanging(lambda request: Response(200)) as exchange:
        late = Connection(exchange.service)
        transport = FakeTransport(exchange.loop)
        transport.protocol, transport.socket = late, ours
        theirs.sendall(PLAIN)
        exchange.service.draining = True
        exchange.within(lambda: late.connection_made(transport))  # type: ignore[arg-type]
        assert not transport.closing
        exchange.within(lambda: late.data_received(ours.recv(1000)))
        assert read_answers(bytes(transport.sent))[0].header("connection") == "close"
        assert transport.closed
