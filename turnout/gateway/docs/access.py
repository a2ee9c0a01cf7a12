"""Who may read the pages: callers that the services admit, and anyone for stages without authentication.

The pages show what `/openapi.json` and the catalogue show. Unlike the other services they answer browsers, so another
site must not be able to read or embed them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from turnout.http_server.messages import Handler, Request, Response
from turnout.http_server.navigation import is_navigation

BROWSER_HEADERS = frozenset({"origin", "sec-fetch-site"})
"""Header fields that the services' guard rejects and that browsers send with every request."""

OWN_SITES = frozenset({"", "none", "same-origin"})

_LET_IN = Response(204)


@dataclass(frozen=True, slots=True)
class Reader:
    """The sender of a request for a page.

    Args:
        is_trusted: whether the services would answer this client, which is then shown every stage.
        refusal: why nothing is shown; empty if something may be shown.
    """

    is_trusted: bool
    refusal: str = ""


def find_reader(request: Request, guard: Callable[[Handler], Handler], *, is_public: bool) -> Reader:
    """Return the reader of a page.

    Args:
        request: any request for a page.
        guard: the services' guard.
        is_public: whether clients that the guard rejects may read about stages without authentication.
    """
    headers = {name.lower(): value for name, value in request.headers}
    if headers.get("sec-fetch-site", "") not in OWN_SITES and not is_navigation(headers):
        return Reader(is_trusted=False, refusal="Another site may link to this page but not load it.")
    plain = tuple((name, value) for name, value in request.headers if name.lower() not in BROWSER_HEADERS)
    asked = Request("GET", request.path, request.query, plain, b"", request.client)
    answer = guard(lambda _: _LET_IN)(asked)
    if answer is _LET_IN:
        return Reader(is_trusted=True)
    if is_public:
        return Reader(is_trusted=False)
    return Reader(is_trusted=False, refusal=_sentence_of(answer))


def _sentence_of(answer: object) -> str:
    """Return the guard's own message."""
    body = orjson.loads(answer.body) if isinstance(answer, Response) and answer.body else {}
    return str(body.get("message", "Access denied."))
