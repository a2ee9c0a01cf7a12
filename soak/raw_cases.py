"""Requests as bytes, valid, malformed and made for smuggling, with the statuses of the server's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATH = b"/health/live"
HOST = b"Host: 127.0.0.1"
CHUNKED = b"Transfer-Encoding: chunked"
TYPE = b"Content-Type: application/json"
ECHO = b'{"inputs":{"x":[[1,2,3,4]]}}'
SIZE = b"Content-Length: %d" % len(ECHO)
GET = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class RawCase:
    """Some bytes of one connection, and the statuses of all answers to them.

    Args:
        data: the bytes.
        statuses: statuses of the answers.
        may_be_reset: whether the client continues after it announced the end; a reset may then arrive before the
            answer.
    """

    data: bytes
    statuses: Sequence[int]
    may_be_reset: bool = False


def get(*lines: bytes, target: bytes = PATH, version: bytes = b"HTTP/1.1") -> bytes:
    """Return a GET of the server's health."""
    return b"\r\n".join([b"GET %b %b" % (target, version), HOST, *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"", method: bytes = b"POST") -> bytes:
    """Return a POST to the model that echoes."""
    first = b"%b /models/echo/v1/inference HTTP/1.1" % method
    return b"\r\n".join([first, HOST, TYPE, *lines, b"", body])


def chunks(*sizes: int, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Return the echo's body in chunks of these sizes, the rest in the last chunk."""
    pieces, rest = [], ECHO
    for size in (*sizes, len(ECHO)):
        if piece := rest[:size]:
            pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
        rest = rest[size:]
    return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"


def _ok(data: bytes, *statuses: int) -> RawCase:
    return RawCase(data, statuses or (200,))


def _refused(status: int, data: bytes) -> RawCase:
    """A case that is rejected, and nothing after it is interpreted as a request."""
    return RawCase(data + GET, (status,))


GOOD: Mapping[str, RawCase] = {
    "get": _ok(GET),
    "head": _ok(GET.replace(b"GET", b"HEAD")),
    "get_http_1_0": _ok(b"GET /health/live HTTP/1.0\r\n\r\n"),
    "get_http_1_0_kept": _ok(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET, 200, 200),
    "empty_lines_before": _ok(b"\r\n\r\n" + GET),
    "address_as_target": _ok(get(target=b"http://127.0.0.1/health/live")),
    "address_in_capitals": _ok(get(target=b"HTTP://127.0.0.1:80/health/live")),
    "query": _ok(get(target=b"/health/live?a=b?c&d=%20")),
    "fragment": _ok(get(target=b"/health/live#b?c")),
    "unknown_path": _ok(get(target=b"/nowhere/x"), 403),
    "bad_escape": _ok(get(target=b"/%zz"), 400),
    "options_star": _ok(b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "odd_host": _ok(b"GET /health/live HTTP/1.1\r\nHost: a.example:80\r\n\r\n"),
    "empty_host": _ok(b"GET /health/live HTTP/1.1\r\nHost:\r\n\r\n"),
    "latin_1_in_value": _ok(get(b"X-A: \xe9")),
    "tabs_around_value": _ok(get(b"X-A: \t b \t")),
    "two_spaces_in_value": _ok(get(b"X-A:  b  c")),
    "twice_the_same_field": _ok(get(b"X-A: 1", b"X-A: 2")),
    "length": _ok(post(SIZE, body=ECHO)),
    "length_with_zeros": _ok(post(b"Content-Length: 000%d" % len(ECHO), body=ECHO)),
    "chunked": _ok(post(CHUNKED, body=chunks())),
    "chunked_in_capitals": _ok(post(b"TRANSFER-ENCODING: CHUNKED", body=chunks())),
    "chunks_of_one_byte": _ok(post(CHUNKED, body=chunks(*[1] * len(ECHO)))),
    "chunk_extensions": _ok(post(CHUNKED, body=chunks(5, extension=b';a="b;c"'))),
    "trailers": _ok(post(CHUNKED, body=chunks(5, trailers=b"X-A: 1\r\nHost: evil\r\n"))),
    "chunked_and_next": _ok(post(CHUNKED, body=chunks(5)) + GET, 200, 200),
    "expect_continue": _ok(post(b"Expect: 100-continue", SIZE, body=ECHO)),
    "upgrade_ignored": _ok(get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA")),
    "upgrade_with_body": _ok(post(b"Connection: Upgrade", b"Upgrade: x", SIZE, body=ECHO) + GET, 200, 200),
    "two_pipelined": _ok(GET * 2, 200, 200),
    "hundred_pipelined": _ok(GET * 100, *[200] * 100),
    "pipelined_kinds": _ok(GET + post(SIZE, body=ECHO) + get(target=b"/x/y") + GET, 200, 200, 403, 200),
    "close": _ok(get(b"Connection: close")),
    "close_in_a_list": _ok(get(b"Connection: x, CLOSE")),
    "close_and_more": RawCase(get(b"Connection: close") + GET, (200,), may_be_reset=True),
    "body_that_is_a_request": _ok(post(b"Content-Length: %d" % len(GET), body=GET), 400),
    "get_with_body": _ok(get(b"Content-Length: 3") + b"abc" + GET, 200, 200),
    "no_body": _ok(post(b"Content-Length: 0"), 400),
    "tls_hello": RawCase(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), ()),
    "nothing": RawCase(b"", ()),
    "half_a_head": RawCase(GET[:30], ()),
    "half_a_body": RawCase(post(SIZE, body=ECHO[:5]), ()),
    "chunk_announced_over_the_limit": RawCase(post(CHUNKED, body=b"A00001\r\nab"), ()),
    "half_a_chunk": RawCase(post(CHUNKED, body=b"5\r\nab"), ()),
    "refused_after_good_ones": RawCase(GET * 3 + b"nonsense\r\n\r\n" + GET, (200, 200, 200, 400)),
}

REFUSED: Mapping[str, tuple[int, bytes]] = {
    # The end of a body that two parsers would see in two places.
    "length_and_chunked": (400, post(SIZE, CHUNKED, body=chunks())),
    "chunked_and_length": (400, post(CHUNKED, SIZE, body=chunks())),
    "two_lengths": (400, post(b"Content-Length: 1", b"Content-Length: 2", body=b"xy")),
    "two_equal_lengths": (400, post(SIZE, SIZE, body=ECHO)),
    "list_of_lengths": (400, post(b"Content-Length: 1, 1", body=b"x")),
    "length_with_plus": (400, post(b"Content-Length: +1", body=b"x")),
    "length_below_zero": (400, post(b"Content-Length: -1", body=b"x")),
    "length_hexadecimal": (400, post(b"Content-Length: 0x1", body=b"x")),
    "length_with_underscore": (400, post(b"Content-Length: 1_0", body=b"x")),
    "length_empty": (400, post(b"Content-Length:", body=b"x")),
    "space_before_colon_of_length": (400, post(b"Content-Length : 1", body=b"x")),
    "length_over_64_bits": (400, post(b"Content-Length: 18446744073709551616")),
    "length_of_64_bits": (413, post(b"Content-Length: 18446744073709551615")),
    "length_over_the_limit": (413, post(b"Content-Length: 10485761")),
    "encoding_unknown": (501, post(b"Transfer-Encoding: xchunked")),
    "encoding_list": (501, post(b"Transfer-Encoding: xchunked, chunked", body=chunks())),
    "encoding_gzip": (501, post(b"Transfer-Encoding: gzip, chunked", body=chunks())),
    "encoding_twice": (400, post(b"Transfer-Encoding: chunked, chunked", body=chunks())),
    "encoding_not_last": (400, post(b"Transfer-Encoding: chunked, identity")),
    "encoding_identity": (501, post(b"Transfer-Encoding: identity")),
    "encoding_quoted": (501, post(b'Transfer-Encoding: "chunked"')),
    "encoding_with_parameter": (501, post(b"Transfer-Encoding: chunked;a=b")),
    "encoding_empty": (400, post(b"Transfer-Encoding:")),
    "encoding_vertical_tab": (400, post(b"Transfer-Encoding: \x0bchunked")),
    "encoding_fields": (400, post(CHUNKED, CHUNKED, body=chunks())),
    "encoding_gzip_field_first": (501, post(b"Transfer-Encoding: gzip", CHUNKED, body=chunks())),
    "encoding_folded": (400, post(b"Transfer-Encoding:\r\n chunked", body=chunks())),
    "encoding_space_before_colon": (400, post(b"Transfer-Encoding : chunked", body=chunks())),
    "encoding_in_http_1_0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunk_bare_lf": (400, post(CHUNKED, body=b"3\nabc\r\n0\r\n\r\n")),
    "chunk_without_end": (400, post(CHUNKED, body=b"3\r\nabc0\r\n\r\n")),
    "chunk_too_long": (400, post(CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n")),
    "chunk_size_overflows": (400, post(CHUNKED, body=b"fffffffffffffffff\r\n")),
    "chunk_size_prefixed": (400, post(CHUNKED, body=b"0x3\r\nabc\r\n")),
    "chunk_size_with_space": (400, post(CHUNKED, body=b"3 \r\nabc\r\n")),
    "chunk_size_negative": (400, post(CHUNKED, body=b"-3\r\nabc\r\n")),
    "chunk_size_empty": (400, post(CHUNKED, body=b"\r\nabc\r\n")),
    "chunk_extension_lf": (400, post(CHUNKED, body=b"3;a\nb\r\nabc\r\n")),
    "trailer_length": (400, post(CHUNKED, body=chunks(trailers=b"Content-Length: 3\r\n"))),
    "trailer_encoding": (400, post(CHUNKED, body=chunks(trailers=b"Transfer-Encoding: chunked\r\n"))),
    # Lines and fields.
    "folded_line": (400, get(b"A: b\r\n c")),
    "folded_first_line": (400, b"GET / HTTP/1.1\r\n A: b\r\nHost: h\r\n\r\n"),
    "bare_lf": (400, get(b"A: b\nC: d")),
    "bare_lf_after_first_line": (400, b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    "bare_lf_at_the_end": (400, b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
    "bare_cr": (400, get(b"A: b\rC: d")),
    "bare_cr_at_the_end": (400, b"GET / HTTP/1.1\r\nHost: h\r\n\rX"),
    "crlf_in_target": (505, b"GET /a\r\nX: y HTTP/1.1\r\nHost: h\r\n\r\n"),
    "nul_in_value": (400, get(b"A: b\0c")),
    "nul_in_name": (400, get(b"A\0: b")),
    "control_in_value": (400, get(b"A: b\x01c")),
    "delete_in_value": (400, get(b"A: b\x7fc")),
    "high_byte_in_name": (400, get(b"A\xe9: b")),
    "space_before_colon": (400, get(b"A : b")),
    "space_in_name": (400, get(b"A b: c")),
    "no_colon": (400, get(b"Ab")),
    "no_name": (400, get(b": b")),
    "no_host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "no_host_but_address": (400, b"GET http://h/ HTTP/1.1\r\nA: b\r\n\r\n"),
    "two_hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "two_equal_hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
    "two_hosts_in_http_1_0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    # The first line.
    "method_unknown": (400, b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "method_lower_case": (400, b"get / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "method_connect": (501, b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_star": (400, b"GET * HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_star_and_more": (400, b"OPTIONS *a HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_relative": (400, b"GET a/b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_other_scheme": (400, b"GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_without_authority": (400, b"GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_high_byte": (400, b"GET /\xe9 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_control": (400, b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_with_space": (400, b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target_too_long": (414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "tab_after_method": (400, b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    "space_after_version": (400, b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n"),
    "two_spaces_after_method": (400, b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "two_spaces_after_target": (400, b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n"),
    "many_spaces_after_target": (400, b"GET /a" + b" " * 50 + b"HTTP/1.1\r\nHost: h\r\n\r\n"),
    "two_spaces_after_empty_lines": (400, b"\r\n\r\nPOST  /a HTTP/1.1\r\nHost: h\r\n\r\n"),
    "version_2_0": (505, b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
    "version_2_0_kept": (505, b"GET / HTTP/2.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"),
    "version_2_0_proxy_kept": (505, b"GET / HTTP/2.0\r\nHost: h\r\nProxy-Connection: keep-alive\r\n\r\n"),
    "version_0_9": (505, b"GET / HTTP/0.9\r\nHost: h\r\n\r\n"),
    "version_1_2": (400, b"GET / HTTP/1.2\r\nHost: h\r\n\r\n"),
    "version_missing": (505, b"GET /\r\n\r\n"),
    "version_and_target_missing": (505, b"CONNECT \n\r\n"),
    "preface_of_http_2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "nonsense": (400, b"\xff\xfe nonsense \r\n\r\n"),
    "expectation_unknown": (417, get(b"Expect: tea")),
    # Sizes.
    "header_too_long": (431, get(b"A: " + b"b" * 10_240)),
    "headers_too_many": (431, get(*[b"A: b"] * 2000)),
    "name_too_long": (431, get(b"A" * 10_240 + b": b")),
}

CASES: Mapping[str, RawCase] = {**GOOD, **{name: _refused(*arguments) for name, arguments in REFUSED.items()}}
