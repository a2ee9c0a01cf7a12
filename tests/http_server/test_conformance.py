"""HTTP/1.1 over real sockets: what is served, what is refused, and what the connection does next."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator

import pytest

from soak.raw_cases import CHUNKED, REFUSED
from tests.builders.http_server import NEW_LOOPS, Gate, RunningServer, collecting_errors, serving
from tests.builders.waiting import wait_until
from turnout.http_server.messages import Request, Response
from turnout.http_server.server import Limits

HOST = b"Host: h\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module", params=sorted(NEW_LOOPS))
def shared(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One server for all tests that do not disturb it; an error in its log fails the last of them."""
    with collecting_errors() as errors, serving(Gate(), loop=request.param) as server:
        yield server
    assert [record.getMessage() for record in errors] == []


def seen_last(server: RunningServer) -> Request:
    gate = server._handle
    assert isinstance(gate, Gate)
    return gate.seen[-1]


# What the handler sees and what the client gets.


def test_request_reaches_the_handler_as_sent(shared: RunningServer) -> None:
    with shared.connect() as client:
        answer = client.ask(
            b"POST /a%2Fb//c?x=1&x=%20?&y HTTP/1.1\r\nhOsT: h\r\nX-Twice: 1\r\nx-twice: \t2 \t\r\nEmpty:\r\n"
            b"X-Latin: \xe9\r\nContent-Length: 3\r\n\r\na\0b"
        )
    request = seen_last(shared)
    assert answer.status == 200
    assert answer.body == b"a\0b"
    assert (request.method, request.path, request.query) == ("POST", "/a%2Fb//c", "x=1&x=%20?&y")
    assert list(request.headers) == [
        ("hOsT", "h"), ("X-Twice", "1"), ("x-twice", "2"), ("Empty", ""), ("X-Latin", "\xe9"), ("Content-Length", "3"),
    ]  # fmt: skip
    assert request.body == b"a\0b"
    assert request.client == "127.0.0.1"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a?", "/a", ""),
        (b"/a?b?c", "/a", "b?c"),
        (b"/a?b#c?d", "/a", "b"),
        (b"/a#b?c", "/a", ""),
        (b"//a", "//a", ""),
        (b"/../a/./b", "/../a/./b", ""),
        (b"/%C3%A9%00", "/%C3%A9%00", ""),
        (b"http://h/a?b", "/a", "b"),
        (b"HTTP://h:80/a", "/a", ""),
        (b"https://h", "/", ""),
        (b"http://h?b=1", "/", "b=1"),
    ],
)
def test_target_is_split_when_it_is_a_path_or_an_address(
    shared: RunningServer, target: bytes, path: str, query: str
) -> None:
    with shared.connect() as client:
        assert client.ask(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n").status == 200
    assert (seen_last(shared).path, seen_last(shared).query) == (path, query)


def test_equal_heads_with_changing_targets_and_bodies_are_each_their_own(shared: RunningServer) -> None:
    head = b"Host: h\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\n"
    requests = [(b"/a?x=1", b"11"), (b"/b", b"22"), (b"/b?y", b"33"), (b"/a?x=1", b"44"), (b"/b", b"55")]
    with shared.connect() as client:
        for target, body in requests:
            answer = client.ask(b"POST " + target + b" HTTP/1.1\r\n" + head + body)
            request = seen_last(shared)
            path, _, query = target.decode().partition("?")
            assert (request.path, request.query, request.body, answer.body) == (path, query, body, body)
            assert ("X-Kept", "1") in request.headers
        client.ask(b"POST /b HTTP/1.1\r\n" + head.replace(b"1", b"2", 1) + b"66")
        assert ("X-Kept", "2") in seen_last(shared).headers


def test_options_star_is_served(shared: RunningServer) -> None:
    with shared.connect() as client:
        assert client.ask(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").status == 200
    assert (seen_last(shared).method, seen_last(shared).path) == ("OPTIONS", "*")


def test_answer_has_length_and_date_and_no_server(shared: RunningServer) -> None:
    with shared.connect() as client:
        answer = client.ask(GET)
    assert [name for name, _ in answer.headers] == ["X-Path", "Date", "Content-Length"]
    sent = email.utils.parsedate_to_datetime(answer.header("date") or "").timestamp()
    assert abs(sent - time.time()) < 5


def test_date_goes_on_when_time_does() -> None:
    with serving(Gate()) as server, server.connect() as client:
        first = client.ask(GET).header("date")
        wait_until(lambda: client.ask(GET).header("date") != first, "the next second")


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 70_000])
def test_chunked_body_is_put_together(shared: RunningServer, chunk_bytes: int) -> None:
    body = bytes(range(256)) * 280 if chunk_bytes > 1000 else bytes(range(256)) * 4
    chunks = [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]
    with shared.connect() as client:
        client.send(b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n")
        client.send(b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks))
        assert client.ask(b"0\r\n\r\n").body == body
        assert client.ask(GET).status == 200


def test_trailers_are_ignored(shared: RunningServer) -> None:
    with shared.connect() as client:
        answer = client.ask(
            b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
            b"X-Trailer: 1\r\nHost: evil\r\nExpect: 100-continue\r\nUpgrade: x\r\n\r\n"
        )
        assert answer.body == b"abc"
        assert [name for name, _ in seen_last(shared).headers] == ["Host", "Transfer-Encoding"]
        assert client.ask(GET).body == b""
        assert list(seen_last(shared).headers) == [("Host", "h")]


def test_trailers_are_not_taken_for_the_next_head_that_has_them(shared: RunningServer) -> None:
    head = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
    with shared.connect() as client:
        for _ in range(2):
            assert client.ask(head + b"\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n").status == 200
            assert client.ask(head + b"X-Trailer: 1\r\n\r\n0\r\n\r\n").status == 200
            assert list(seen_last(shared).headers)[-1] == ("X-Trailer", "1")
        client.send(head + b"\r\n0\r\nHost: h\r\n\r\n")
        assert client.read().status == 200
        assert client.ask(head + b"Host: h\r\n\r\n0\r\n\r\n").status == 400


def test_body_of_a_megabyte_comes_back_the_same(shared: RunningServer) -> None:
    body = bytes(range(256)) * (MIB // 256)
    with shared.connect() as client:
        answer = client.ask(b"PUT /big HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.body == body


# Connections.


@pytest.mark.parametrize(
    ("head", "kept", "said"),
    [
        (b"GET /a HTTP/1.1\r\nHost: h\r\n", True, None),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n", True, None),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", False, "close"),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n", False, "close"),
        (b"GET /a HTTP/1.0\r\n", False, "close"),
        (b"GET /a HTTP/1.0\r\nHost: h\r\nConnection: close\r\n", False, "close"),
        (b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n", True, "keep-alive"),
        (b"GET /a HTTP/1.0\r\nHost: h\r\nProxy-Connection: keep-alive\r\n", True, "keep-alive"),
    ],
)
def test_connection_is_kept_when_both_sides_may(
    shared: RunningServer, head: bytes, kept: bool, said: str | None
) -> None:
    with shared.connect() as client:
        for _ in range(3 if kept else 1):
            answer = client.ask(head + b"\r\n")
            assert answer.status == 200
            assert answer.header("connection") == said
        if not kept:
            assert client.read_to_end() == b""


def test_pipelined_requests_are_answered_in_order(shared: RunningServer) -> None:
    requests = [b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" % index for index in range(300)]
    with shared.connect() as client:
        client.send(b"".join(requests))
        assert [client.read().header("x-path") for _ in requests] == [f"/{index}" for index in range(300)]


@pytest.mark.parametrize("loop", sorted(NEW_LOOPS))
def test_pipelined_requests_wait_when_the_first_is_slow(loop: str) -> None:
    gate = Gate()
    with serving(gate, loop=loop) as server, server.connect() as client:
        client.send(
            b"".join(b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % name for name in (b"slow1", b"b", b"slow2", b"d"))
        )
        gate.wait_until(lambda: len(gate.seen) == 1)
        client.send(b"GET /e HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [request.path for request in gate.seen] == ["/slow1"]
        server.call(gate.opened.set)
        paths = [client.read().header("x-path") for _ in range(5)]
    assert paths == ["/slow1", "/b", "/slow2", "/d", "/e"]


def test_refusal_waits_for_its_turn_when_an_earlier_answer_is_slow() -> None:
    gate = Gate()
    with serving(gate) as server, server.connect() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n")
        gate.wait_until(lambda: len(gate.seen) == 1)
        server.call(gate.opened.set)
        assert [client.read().status for _ in range(3)] == [200, 200, 400]
        assert client.read_to_end() == b""


def test_what_comes_after_connection_close_is_not_served(shared: RunningServer) -> None:
    with shared.connect() as client:
        client.send(b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET)
        assert client.read().status == 200
        assert client.read_to_end() == b""
    assert seen_last(shared).path == "/last"


SPLIT = (
    b"POST /s?q HTTP/1.1\r\nHost: h\r\nX-A: b\r\nContent-Length: 4\r\n\r\nbody"
    b"PUT /t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n"
    b"GET /u HTTP/1.1\r\nHost: h\r\n\r\n"
)


def test_requests_are_read_when_they_come_byte_by_byte(shared: RunningServer) -> None:
    with shared.connect() as client:
        for position in range(len(SPLIT)):
            client.send(SPLIT[position : position + 1])
        assert [client.read().body for _ in range(3)] == [b"body", b"abcd", b""]


def test_requests_are_read_when_split_anywhere(shared: RunningServer) -> None:
    with shared.connect() as client:
        for position in range(1, len(SPLIT)):
            client.send(SPLIT[:position])
            client.send(SPLIT[position:])
            assert [client.read().body for _ in range(3)] == [b"body", b"abcd", b""], position


def test_half_closed_client_gets_its_answers() -> None:
    gate = Gate()
    with serving(gate) as server:
        for data, count in ((GET, 1), (b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n" + GET, 2)):
            with server.connect() as client:
                client.send(data)
                client.socket.shutdown(1)
                server.call(gate.opened.set)
                assert [client.read(informational=False).status for _ in range(count)] == [200] * count
                assert client.read_to_end() == b""


# Bodies that are not sent.


def test_head_is_answered_without_body() -> None:
    def handle(request: Request) -> Response:
        return Response(200, (), b"twelve bytes")

    with serving(handle) as server, server.connect() as client:
        answer = client.ask(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", head_only=True)
        assert answer.header("content-length") == "12"
        assert client.ask(GET).body == b"twelve bytes"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_body_are_answered_without(status: int) -> None:
    with serving(lambda request: Response(status, (), b"never")) as server, server.connect() as client:
        for _ in range(2):
            answer = client.ask(GET)
            assert answer.status == status
            assert answer.header("content-length") is None


# Expect: 100-continue.

EXPECT = b"POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n"


@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"Content-Length: 3\r\n", b"abc"), (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")],
)
def test_continue_is_sent_when_a_body_is_to_come(shared: RunningServer, framing: bytes, body: bytes) -> None:
    with shared.connect() as client:
        for _ in range(2):
            assert client.ask(EXPECT + framing + b"\r\n").status == 100
            assert client.ask(body).body == b"abc"


def test_no_continue_when_there_is_no_body_or_it_has_come(shared: RunningServer) -> None:
    with shared.connect() as client:
        assert client.ask(EXPECT + b"Content-Length: 0\r\n\r\n").status == 200
        assert client.ask(b"GET /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n").status == 200
        assert client.ask(EXPECT + b"Content-Length: 3\r\n\r\nabc").status == 200
        client.send(b"POST /e HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert client.ask(b"abc").status == 200


def test_continue_waits_for_its_turn_when_an_earlier_answer_is_slow() -> None:
    gate = Gate()
    with serving(gate) as server, server.connect() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n" + EXPECT + b"Content-Length: 3\r\n\r\n")
        gate.wait_until(lambda: len(gate.seen) == 1)
        server.call(gate.opened.set)
        assert [client.read().status for _ in range(2)] == [200, 100]
        assert client.ask(b"abc").body == b"abc"


def test_expectation_is_refused_at_once_when_the_body_is_too_long(shared: RunningServer) -> None:
    with shared.connect() as client:
        assert client.ask(EXPECT + b"Content-Length: 10485761\r\n\r\n").status == 413
        assert client.read_to_end() == b""


def test_unknown_expectation_is_417(shared: RunningServer) -> None:
    with shared.connect() as client:
        assert client.ask(b"GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n").status == 417


# Upgrades.


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_upgrade_is_ignored_and_its_request_served(shared: RunningServer, framing: bytes) -> None:
    body = {b"": b"", b"Content-Length: 3\r\n": b"abc"}.get(framing, b"3\r\nabc\r\n0\r\n\r\n")
    one = (
        b"POST /u HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
        + framing + b"\r\n" + body
    )  # fmt: skip
    data = one * 3 + GET
    expected = [b"abc" if framing else b""] * 3 + [b""]
    with shared.connect() as client:
        client.send(data)
        assert [client.read().body for _ in expected] == expected
        for position in range(len(data)):
            client.send(data[position : position + 1])
        assert [client.read().body for _ in expected] == expected


def test_upgrade_is_ignored_when_the_client_waits_to_go_on(shared: RunningServer) -> None:
    with shared.connect() as client:
        head = EXPECT + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n"
        assert client.ask(head).status == 100
        assert client.ask(b"abc").body == b"abc"


# Refusals.


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: h", *lines, b"", body])


@pytest.mark.parametrize("name", REFUSED)
def test_request_is_refused_when(shared: RunningServer, name: str) -> None:
    status, data = REFUSED[name]
    gate = shared._handle
    assert isinstance(gate, Gate)
    before = len(gate.seen)
    for pieces in ([data], [data[index : index + 1] for index in range(min(len(data), 3000))] + [data[3000:]]):
        with shared.connect() as client:
            for piece in pieces:
                client.send(piece)
            answer = client.read()
            assert answer.status == status
            assert answer.header("connection") == "close"
            if status == 413:
                assert answer.header("content-type") == "text; charset=utf-8"
            else:
                assert answer.header("content-type") == "application/json"
                assert re.fullmatch(rb'\{"message":"[\w -]+"\}', answer.body)
            # What followed the nonsense is never taken for a request.
            client.send(GET)
            client.socket.shutdown(1)
            assert client.read_to_end() == b""
    assert len(gate.seen) == before


TWO_SPACES = b"GET  /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("first", [
    GET,
    post(b"Content-Length: 5", body=b"ab  c"),
    post(b"Content-Length: 4", body=b"POST"),
    post(CHUNKED, body=b"5\r\nab  c\r\n0\r\n\r\n"),
    post(CHUNKED, body=b"3\r\nabc\r\n0\r\nA:  b\r\n\r\n"),
    post(b"A:  b  c", b"Content-Length: 3", body=b"  \n"),
])  # fmt: skip
def test_two_spaces_are_found_behind_another_request_wherever_it_is_cut(shared: RunningServer, first: bytes) -> None:
    data = first + TWO_SPACES
    cuts = range(max(1, len(first) - 6), len(first) + 14)
    for pieces in (
        (data,),
        *((data[:cut], data[cut:]) for cut in cuts),
        tuple(data[i : i + 1] for i in range(len(data))),
    ):
        with shared.connect() as client:
            for piece in pieces:
                client.send(piece)
            assert [client.read().status for _ in range(2)] == [200, 400], pieces
            assert client.read_to_end() == b""


def test_two_spaces_in_fields_and_bodies_are_nobodys_business(shared: RunningServer) -> None:
    bodies = (b'{\n  "inputs":  [\n' + b"  1,\n" * 5000 + b"]}", b"  ", b"GET  /x HTTP/1.1\r\n\r\n")
    requests = [
        *(post(b"A:  b  c", b"Content-Length: %d" % len(body), body=body) for body in bodies),
        *(post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)) for body in bodies),
    ]
    with shared.connect() as client:
        client.send(b"".join(requests))
        assert [client.read().body for _ in requests] == [*bodies, *bodies]
        for request in requests:
            for cut in (1, 5, 10, len(request) - 3):
                client.send(request[:cut])
                time.sleep(0.001)  # else both halves may come as one
                client.send(request[cut:])
                assert client.read().status == 200


def test_refusal_leaves_the_answers_before_it(shared: RunningServer) -> None:
    with shared.connect() as client:
        client.send(GET * 3 + b"nonsense")
        assert [client.read().status for _ in range(4)] == [200, 200, 200, 400]
        assert client.read_to_end() == b""


def test_tls_hello_gets_a_clean_close(shared: RunningServer) -> None:
    for size in (1, 300):
        with shared.connect() as client:
            client.send((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512))[:size])
            assert client.read_to_end() == b""


def test_body_too_long_is_answered_in_api_gateways_words(shared: RunningServer) -> None:
    with shared.connect() as client:
        answer = client.ask(post(b"Content-Length: 10485761"))
    assert answer.body == b"HTTP content length exceeded 10485760 bytes."
    assert answer.header("content-type") == "text; charset=utf-8"


def test_refusal_is_seen_when_the_client_sends_everything_first(shared: RunningServer) -> None:
    body = bytes(12 * MIB)
    for head in (b"Content-Length: %d\r\n" % len(body), b"Transfer-Encoding: chunked\r\n"):
        with shared.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n")
            if head.startswith(b"T"):
                client.send(b"%x\r\n" % len(body))
            client.send(body)
            assert client.read().status == 413
            assert client.read_to_end() == b""


def test_body_is_served_when_it_has_just_the_limit() -> None:
    with serving(Gate(), Limits(max_body_bytes=1000)) as server, server.connect() as client:
        for framing, body in (
            (b"Content-Length: 1000", b"x" * 1000),
            (CHUNKED, b"1f4\r\n" + b"x" * 500 + b"\r\n1f4\r\n" + b"x" * 500 + b"\r\n0\r\n\r\n"),
            (CHUNKED, b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"),
        ):
            assert client.ask(post(framing, body=body)).body == b"x" * 1000
        assert client.ask(post(CHUNKED, body=b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n")).status == 413


def test_header_is_served_when_it_has_just_the_limit() -> None:
    with serving(Gate(), Limits(max_header_bytes=200)) as server, server.connect() as client:
        lines = b"Host: h\r\nContent-Length: 0\r\n"
        fits = lines + b"A: " + b"b" * (200 - len(lines) - 5) + b"\r\n"
        assert len(fits) == 200
        assert client.ask(b"POST / HTTP/1.1\r\n" + fits + b"\r\n").status == 200
        assert client.ask(b"POST / HTTP/1.1\r\n" + fits.replace(b"b\r\n", b"bb\r\n") + b"\r\n").status == 431


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nA: ",
        b"GET / HTTP/1.1\r\nHost: h\r\nA",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: ",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;a=",
    ],
)
def test_endless_line_is_refused_while_it_comes(shared: RunningServer, start: bytes) -> None:
    with shared.connect() as client:
        client.send(start)
        answer = None
        for _ in range(2000):  # 2 MB at most
            client.send(b"a" * 1000)
            client.socket.settimeout(0.001)
            try:
                first = client.socket.recv(12)
            except TimeoutError:
                continue
            finally:
                client.socket.settimeout(10)
            answer = first
            break
        assert answer == b"HTTP/1.1 431"


def test_refusals_are_logged_with_what_is_known() -> None:
    with serving(Gate()) as server:
        for data in (GET, b"nonsense", b"GET /x HTTP/2.0\r\n\r\n", post(b"Content-Length: 10485761")):
            with server.connect() as client:
                client.ask(data)
    assert [(request.method, request.path, response.status) for request, response, _ in server.logged] == [
        ("GET", "/a", 200), ("-", "-", 400), ("GET", "/x", 505), ("POST", "/", 413),
    ]  # fmt: skip
    assert all(0 <= seconds < 5 for _, _, seconds in server.logged)
