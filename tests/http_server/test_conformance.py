"""HTTP/1.1 over real sockets: which requests are served or rejected, and what the connection does next."""

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
    """One server for all tests that leave it unchanged; an error in its log fails the last of them."""
    with collecting_errors() as errors, serving(Gate(), loop=request.param) as server:
        yield server
    assert [record.getMessage() for record in errors] == []


def seen_last(server: RunningServer) -> Request:
    gate = server._handle
    assert isinstance(gate, Gate)
    return gate.seen[-1]


# What the handler sees and what the client receives.


def test_request_reaches_the_handler_unchanged(shared: RunningServer) -> None:
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
def test_target_is_split_if_it_is_a_path_or_a_url(shared: RunningServer, target: bytes, path: str, query: str) -> None:
    with shared.connect() as client:
        assert client.ask(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n").status == 200
    assert (seen_last(shared).path, seen_last(shared).query) == (path, query)


def test_equal_heads_with_different_targets_and_bodies_are_separate_requests(shared: RunningServer) -> None:
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


def test_date_changes_with_the_time() -> None:
    with serving(Gate()) as server, server.connect() as client:
        first = client.ask(GET).header("date")
        wait_until(lambda: client.ask(GET).header("date") != first, "the next second")


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 70_000])
def test_chunked_body_is_joined(shared: RunningServer, chunk_bytes: int) -> None:
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


def test_trailers_are_not_mistaken_for_the_next_head_with_the_same_fields(shared: RunningServer) -> None:
    head = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
    with shared.connect() as client:
        for _ in range(2):
            assert client.ask(head + b"\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n").status == 200
            assert client.ask(head + b"X-Trailer: 1\r\n\r\n0\r\n\r\n").status == 200
            assert list(seen_last(shared).headers)[-1] == ("X-Trailer", "1")
        client.send(head + b"\r\n0\r\nHost: h\r\n\r\n")
        assert client.read().status == 200
        assert client.ask(head + b"Host: h\r\n\r\n0\r\n\r\n").status == 400


def test_body_of_a_megabyte_is_returned_unchanged(shared: RunningServer) -> None:
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
def test_connection_is_kept_if_both_sides_allow_it(
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
def test_pipelined_requests_wait_if_the_first_is_slow(loop: str) -> None:
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


def test_rejection_waits_for_a_slow_earlier_answer() -> None:
    gate = Gate()
    with serving(gate) as server, server.connect() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n")
        gate.wait_until(lambda: len(gate.seen) == 1)
        server.call(gate.opened.set)
        assert [client.read().status for _ in range(3)] == [200, 200, 400]
        assert client.read_to_end() == b""


def test_data_after_connection_close_is_not_served(shared: RunningServer) -> None:
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


def test_requests_are_read_byte_by_byte(shared: RunningServer) -> None:
    with shared.connect() as client:
        for position in range(len(SPLIT)):
            client.send(SPLIT[position : position + 1])
        assert [client.read().body for _ in range(3)] == [b"body", b"abcd", b""]


def test_requests_are_read_when_split_at_any_point(shared: RunningServer) -> None:
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


# Responses without a body.


def test_head_is_answered_without_a_body() -> None:
    def handle(request: Request) -> Response:
        return Response(200, (), b"twelve bytes")

    with serving(handle) as server, server.connect() as client:
        answer = client.ask(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", head_only=True)
        assert answer.header("content-length") == "12"
        assert client.ask(GET).body == b"twelve bytes"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_are_answered_without_one(status: int) -> None:
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
def test_continue_is_sent_before_a_body(shared: RunningServer, framing: bytes, body: bytes) -> None:
    with shared.connect() as client:
        for _ in range(2):
            assert client.ask(EXPECT + framing + b"\r\n").status == 100
            assert client.ask(body).body == b"abc"


def test_no_continue_is_sent_without_a_body_or_after_it_has_arrived(shared: RunningServer) -> None:
    with shared.connect() as client:
        assert client.ask(EXPECT + b"Content-Length: 0\r\n\r\n").status == 200
        assert client.ask(b"GET /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n").status == 200
        assert client.ask(EXPECT + b"Content-Length: 3\r\n\r\nabc").status == 200
        client.send(b"POST /e HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert client.ask(b"abc").status == 200


def test_continue_waits_for_a_slow_earlier_answer() -> None:
    gate = Gate()
    with serving(gate) as server, server.connect() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n" + EXPECT + b"Content-Length: 3\r\n\r\n")
        gate.wait_until(lambda: len(gate.seen) == 1)
        server.call(gate.opened.set)
        assert [client.read().status for _ in range(2)] == [200, 100]
        assert client.ask(b"abc").body == b"abc"


def test_expectation_is_rejected_immediately_if_the_body_is_too_long(shared: RunningServer) -> None:
    with shared.connect() as client:
        assert client.ask(EXPECT + b"Content-Length: 10485761\r\n\r\n").status == 413
        assert client.read_to_end() == b""


def test_unknown_expectation_gets_417(shared: RunningServer) -> None:
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


def test_upgrade_is_ignored_if_the_client_waits_for_continue(shared: RunningServer) -> None:
    with shared.connect() as client:
        head = EXPECT + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n"
        assert client.ask(head).status == 100
        assert client.ask(b"abc").body == b"abc"


# Rejections.


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: h", *lines, b"", body])


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_request_is_rejected(shared: RunningServer, name: str) -> None:
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
            # What follows an invalid request is never interpreted as a request.
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
def test_two_spaces_are_found_behind_another_request_in_any_chunks(shared: RunningServer, first: bytes) -> None:
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


def test_two_spaces_in_fields_and_bodies_are_allowed(shared: RunningServer) -> None:
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
                time.sleep(0.001)  # otherwise both halves may arrive as one
                client.send(request[cut:])
                assert client.read().status == 200


def test_rejection_does_not_affect_earlier_answers(shared: RunningServer) -> None:
    with shared.connect() as client:
        client.send(GET * 3 + b"nonsense")
        assert [client.read().status for _ in range(4)] == [200, 200, 200, 400]
        assert client.read_to_end() == b""


def test_tls_hello_gets_a_clean_close(shared: RunningServer) -> None:
    for size in (1, 300):
        with shared.connect() as client:
            client.send((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512))[:size])
            assert client.read_to_end() == b""


def test_a_too_long_body_gets_the_error_of_api_gateway(shared: RunningServer) -> None:
    with shared.connect() as client:
        answer = client.ask(post(b"Content-Length: 10485761"))
    assert answer.body == b"HTTP content length exceeded 10485760 bytes."
    assert answer.header("content-type") == "text; charset=utf-8"


def test_rejection_can_be_read_by_a_client_that_sends_everything_first(shared: RunningServer) -> None:
    body = bytes(12 * MIB)
    for head in (b"Content-Length: %d\r\n" % len(body), b"Transfer-Encoding: chunked\r\n"):
        with shared.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n")
            if head.startswith(b"T"):
                client.send(b"%x\r\n" % len(body))
            client.send(body)
            assert client.read().status == 413
            assert client.read_to_end() == b""


def test_body_at_the_limit_is_served() -> None:
    with serving(Gate(), Limits(max_body_bytes=1000)) as server, server.connect() as client:
        for framing, body in (
            (b"Content-Length: 1000", b"x" * 1000),
            (CHUNKED, b"1f4\r\n" + b"x" * 500 + b"\r\n1f4\r\n" + b"x" * 500 + b"\r\n0\r\n\r\n"),
            (CHUNKED, b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"),
        ):
            assert client.ask(post(framing, body=body)).body == b"x" * 1000
        assert client.ask(post(CHUNKED, body=b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n")).status == 413


def test_header_at_the_limit_is_served() -> None:
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
def test_endless_line_is_rejected_while_it_arrives(shared: RunningServer, start: bytes) -> None:
    with shared.connect() as client:
        client.send(start)
        answer = None
        for _ in range(2000):  # at most 2 MB
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


def test_rejections_are_logged_with_the_known_fields() -> None:
    with serving(Gate()) as server:
        for data in (GET, b"nonsense", b"GET /x HTTP/2.0\r\n\r\n", post(b"Content-Length: 10485761")):
            with server.connect() as client:
                client.ask(data)
    assert [(request.method, request.path, response.status) for request, response, _ in server.logged] == [
        ("GET", "/a", 200), ("-", "-", 400), ("GET", "/x", 505), ("POST", "/", 413),
    ]  # fmt: skip
    assert all(0 <= seconds < 5 for _, _, seconds in server.logged)
