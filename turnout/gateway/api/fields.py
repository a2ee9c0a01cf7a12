"""A request's header fields and query, parsed once, as API Gateway passes them to functions.

Names keep the client's spelling, except for `Authorization`, `User-Agent` and `X-Amzn-Trace-Id`, which have AWS's.
Fields that belong to the connection are dropped. A repeated name has its last value, and all of its values in the
multi-value map.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import parse_qsl

from turnout.http_server.messages import Headers, Request
from turnout.protocol.naming import REPLAY_HEADER

_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "content-md5",
        "expect",
        "max-forwards",
        "proxy-authenticate",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "x-forwarded-for",  # the gateway sets these three itself
        "x-forwarded-port",
        "x-forwarded-proto",
        REPLAY_HEADER,  # used by the gateway only
    }
)
_RESPELLED = {"authorization": "Authorization", "user-agent": "User-Agent", "x-amzn-trace-id": "X-Amzn-Trace-Id"}

# Slots of the fields that the gateway reads itself; all other fields are in slot 0.
_SLOTS = (
    "",
    "accept",
    "content-type",
    "host",
    "user-agent",
    "x-amzn-trace-id",
    "x-api-key",
    "x-forwarded-for",
    REPLAY_HEADER,
    "origin",
    "authorization",
    "prefer",
)
ACCEPT, CONTENT_TYPE, HOST, USER_AGENT, TRACE, API_KEY, FORWARDED_FOR, REPLAY, ORIGIN, AUTHORIZATION, PREFER = range(
    1, len(_SLOTS)
)


@lru_cache(maxsize=1024)
def _spelled(name: str) -> tuple[str, int]:
    """Return the name's spelling in the event (empty: not in it) and its slot."""
    lowered = name.lower()
    slot = _SLOTS.index(lowered) if lowered in _SLOTS else 0
    return "" if lowered in _DROPPED else _RESPELLED.get(lowered, name), slot


class Fields:
    """A request's header fields. Requests with the same head share them, so they must not be changed.

    Args:
        headers: as sent.
    """

    __slots__ = ("known", "repeated", "single")

    def __init__(self, headers: Headers) -> None:
        self.single: dict[str, str] = {}
        self.repeated: dict[str, list[str]] = {}  # all values of the names that were sent more than once
        self.known: list[str | None] = [None] * len(_SLOTS)
        single, known = self.single, self.known
        for name, value in headers:
            spelling, slot = _spelled(name)
            if slot:
                before = known[slot]
                known[slot] = f"{before}, {value}" if slot == FORWARDED_FOR and before else value
            if not spelling:
                continue
            if spelling in single:
                self.repeated.setdefault(spelling, [single[spelling]]).append(value)
            single[spelling] = value

    def by_lower_name(self) -> dict[str, str]:
        """Return name in lower case -> last value."""
        return {name.lower(): value for name, value in self.single.items()}


def fields_of(request: Request) -> Fields:
    """Return the request's fields, parsed once for all requests with the same ones."""
    fields: Fields | None = request.kept.get("fields")
    if fields is None:
        fields = request.kept["fields"] = Fields(request.headers)
    return fields


def parse_query(query: str) -> tuple[dict[str, str] | None, dict[str, list[str]] | None]:
    """Return last value and all values by name, decoded (`+` is a space); None twice without parameters."""
    multiple: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        if name in multiple:
            multiple[name].append(value)
        else:
            multiple[name] = [value]
    if not multiple:
        return None, None
    return {name: values[-1] for name, values in multiple.items()}, multiple
