"""Changes valid requests as a careless or hostile client would: in their JSON, bytes, headers, path and method."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from soak.cases import BINARY, LENGTH, Case

Parent = dict[str, Any] | list[Any]

ODD_VALUES: Sequence[Any] = (
    *(None, True, 0, -1, 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63), 0.1, -0.0, 1e39, 1e308, 5e-324),
    *("", "NaN", "Infinity", "-1", "x", "FP32", "BF16", "FP16", "BOOL", "BYTES", "UINT8", "INT64", "\0", "\x1b[31m"),
    *("☃" * 50, "a" * 10_000, [], {}, [[]], [[[[1]]]], [None], [1, "x"], {"x": 1}, {"": {}}, [0] * 1000, [-1], [0, 4]),
    *(
        [1, -4],
        [2**31, 2**31],
        [2**62, 4],
        {"binary_data_size": 2**40},
        {"binary_data": True},
        {"binary_data_size": -1},
    ),
)

ODD_NUMBERS = (b"NaN", b"-Infinity", b"1e999", b"-0", b"00", b"1.", b".5", b"0x1", b"1_0", b"9" * 400, b"1e-400", b"+1")

CONTENT_TYPES = (
    *(
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "application/JSON",
        BINARY,
        "application/x-protobuf",
        "*/*",
    ),
    *("multipart/form-data; boundary=x", "application/json, text/html", 'application/json; charset="', "\xe9"),
)

PATHS = (
    *("/", "//", "/models//echo", "/models/echo/v1/inference/", "/models/echo/v9/inference", "/MODELS/echo/inference"),
    *("/models/echo/%2e%2e/inference", "/models/../models", "/models/echo/v1%2Finference", "/models/%00", "/%zz", "/%"),
    *("/v2/", "/v2/models", "/v2/models/echo/versions/v9/infer", "/v2/models/echo/ready", "/v2/models//infer"),
    *("/v2/repository/index", "/v2/models/echo/stats", "/nowhere/models", "/dev", "/dev/dev/models", "/models/router"),
    *("/models/echo/inference?" + "a=b&" * 500, "/models?x=%ff&x=%00&=&&", "/turnout", "/2015-03-31/functions"),
)

EMPTY_MEMBER = gzip.compress(b"", 1, mtime=0)
ZEROS = gzip.compress(bytes(2_000_000), mtime=0)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PROPFIND")

SERVICES = ("/restapis", "/turnout", "/2015-03-31")
"""Paths for which only headers are changed: a DELETE there is a valid request that changes the server, and an event
that API Gateway would not make is a legitimate failure of a function.
"""


def mutate(case: Case, source: random.Random) -> Case:
    """Return another request with the same tag; the only expectation is that its answer belongs to it."""
    for _ in range(source.choice((1, 1, 2, 4))):
        mutations = (mutate_headers,) if case.target.startswith(SERVICES) else MUTATIONS
        case = source.choice(mutations)(case, source)
    return replace(case, values=None, shows_tag=False)


def mutate_json(case: Case, source: random.Random) -> Case:
    """Change one place in the body's JSON."""
    length, content = _read_json(case)
    places = list(_places(content))
    if not places:
        return mutate_bytes(case, source)
    parent, key = source.choice(places)
    action = source.randrange(6)
    value = parent[key]
    if action == 0:
        del parent[key]
    elif action == 1:
        _put(parent, key, [value])
    elif action == 2:
        _put(parent, key, [value] * source.choice((0, 2, 300)))
    elif action == 3 and isinstance(parent, dict):
        parent[source.choice(("", "x", "y", "id", "inputs", "instances", "data", "shape"))] = value
    else:
        _put(parent, key, source.choice(ODD_VALUES))
    return _with_json(case, length, orjson.dumps(content))


def mutate_text(case: Case, source: random.Random) -> Case:
    """Change the JSON's text beyond what a serializer writes: unusual numbers, duplicate keys, depth, truncation."""
    body = case.body or b""
    length, content = _read_json(case)
    text = body[:length] if length else body
    action = source.randrange(5)
    if action == 0:
        digits = [at for at, byte in enumerate(text) if 48 <= byte <= 57]
        if digits:
            at = source.choice(digits)
            text = text[:at] + source.choice(ODD_NUMBERS) + text[at + 1 :]
    elif action == 1 and isinstance(content, dict):
        text = b"{%b,%b" % (text.strip()[1:-1], text.strip()[1:])
    elif action == 2:
        depth = source.choice((50, 1000, 100_000))
        text = source.choice((b"[", b'{"inputs":')) * depth + text
    elif action == 3:
        text = text[: source.randrange(len(text) + 1)]
    else:
        text = source.choice((b"\xef\xbb\xbf", b" \t\r\n", b"\xff\xfe", b"null,", b"\0")) + text
    return _with_json(case, length, text)


def mutate_bytes(case: Case, source: random.Random) -> Case:
    """Flip, insert, delete or duplicate some bytes of the body."""
    return replace(case, body=change_bytes(case.body or b"{}", source))


def mutate_headers(case: Case, source: random.Random) -> Case:
    """Change, remove or duplicate a header without moving the end of the request."""
    headers = list(case.headers)
    action = source.randrange(6)
    if action == 0 and headers:
        del headers[source.randrange(len(headers))]
    elif action == 1:
        headers = [field for field in headers if field[0] != "Content-Type"]
        headers.append(("Content-Type", source.choice(CONTENT_TYPES)))
    elif action == 2:
        headers.append(
            ("Content-Encoding", source.choice(("gzip", "deflate", "br", "gzip, gzip", "identity", "", "x")))
        )
    elif action == 3:
        headers.append((LENGTH, source.choice(("0", "-1", "1", "99999999999", "x", "", "1.5", "5_0"))))
    elif action == 4:
        name = source.choice(("x-api-key", "Accept", "x-turnout-version", "x-turnout-replay", "X-Amzn-Trace-Id", "TE"))
        headers.append((name, source.choice(("", "v1", "v9", BINARY, "a" * 5000, "\xe9", "Root=1;;;", "*/*;q=0"))))
    elif headers:
        headers.append(source.choice(headers))
    return replace(case, headers=tuple(headers))


def mutate_path(case: Case, source: random.Random) -> Case:
    """Use another path."""
    if source.random() < 0.5:
        return replace(case, target=source.choice(PATHS))
    path, _, query = case.target.partition("?")
    at = source.randrange(1, len(path) + 1)
    path = path[:at] + source.choice(("/", "%20", "%", "..", ".", "//", "é", "~", "?", "+", "{x}")) + path[at:]
    target = f"{path}?{query}" if query else path
    return replace(case, target=target.encode().decode("latin-1"))


def mutate_method(case: Case, source: random.Random) -> Case:
    """Use another method."""
    return replace(case, method=source.choice(METHODS))


def mutate_encoding(case: Case, source: random.Random) -> Case:
    """Compress the body, correctly or not."""
    body = case.body or b""
    action = source.randrange(6)
    if action < 3:
        encoded = gzip.compress(body, 1, mtime=0)
        encoded = (encoded, encoded[:-4], encoded + EMPTY_MEMBER * 200)[action]
    else:
        encoded = (ZEROS, zlib.compress(body, 1), body)[action - 3]
    encoding = source.choice(("gzip", "gzip", "deflate", "GZIP"))
    return replace(case, body=encoded, headers=(*case.headers, ("Content-Encoding", encoding)))


MUTATIONS: Sequence[Callable[[Case, random.Random], Case]] = (
    *(mutate_json, mutate_json, mutate_json, mutate_text, mutate_text, mutate_bytes),
    *(mutate_headers, mutate_headers, mutate_path, mutate_method, mutate_encoding),
)


def change_bytes(data: bytes, source: random.Random) -> bytes:
    """Return bytes with some of them flipped, inserted, deleted or duplicated."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 3, 10))):
        at = source.randrange(len(changed) + 1)
        action = source.randrange(4)
        if action == 0 and at < len(changed):
            changed[at] ^= 1 << source.randrange(8)
        elif action == 1:
            changed[at:at] = source.choice((b"\r\n", b"\n", b"\0", b" ", b"  ", b":", b",", b"0", source.randbytes(3)))
        elif action == 2:
            del changed[at : at + source.choice((1, 2, 20))]
        else:
            changed[at:at] = changed[at : at + source.choice((1, 10, 100))]
    return bytes(changed)


def _read_json(case: Case) -> tuple[int, Any]:
    """Return the length of the JSON in a binary body, 0 for other bodies; and its content, or None."""
    body = case.body or b""
    length = next((int(value) for name, value in case.headers if name == LENGTH and value.isdecimal()), 0)
    try:
        return length, orjson.loads(body[:length] if length else body)
    except orjson.JSONDecodeError:
        return length, None


def _with_json(case: Case, length: int, text: bytes) -> Case:
    """Return the request with another JSON; half of the binary ones contain its new length."""
    if not length:
        return replace(case, body=text)
    headers = tuple(
        (name, str(len(text)) if name == LENGTH and len(text) % 2 else value) for name, value in case.headers
    )
    return replace(case, headers=headers, body=text + (case.body or b"")[length:])


def _places(content: Any) -> Any:
    """Return every (parent, key) in a JSON value; for long lists only the first ones."""
    if isinstance(content, dict):
        items: Sequence[tuple[Any, Any]] = list(content.items())
    elif isinstance(content, list):
        items = list(enumerate(content[:8]))
    else:
        return
    for key, value in items:
        yield content, key
        yield from _places(value)


def _put(parent: Any, key: Any, value: Any) -> None:
    parent[key] = value
