"""Allows access to the console only to a browser on this machine that opened this run's address.

The page acts without further questions, so requests from other pages or clients are rejected here: other host names
(DNS rebinding), other sites' forms, fetches and frames (`Sec-Fetch-Site`, a `SameSite=Strict` cookie, JSON bodies,
`frame-ancestors`), and clients behind a proxy.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest
from urllib.parse import parse_qs

from turnout.http_server.clients import PROXIES, domain_of
from turnout.http_server.messages import Request, Response
from turnout.loopback import is_loopback, is_loopback_address
from turnout.protocol.naming import CONSOLE_SEGMENT

COOKIE = "turnout_console"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)

NAVIGATED = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of a page that a user opened; requests made by a page have `same-origin`."""


@dataclass(frozen=True, slots=True)
class Door:
    """The checks of one run.

    Args:
        token: the token in the printed address.
        session: the value of the cookie.
        is_open: whether other machines may access the console.
        may_write: whether anything may be changed.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    is_open: bool = False
    may_write: bool = True

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies ignore ports, so two servers on one machine need two names."""
        return f"{COOKIE}_{hashlib.sha256(self.session.encode()).hexdigest()[:8]}"

    @property
    def shows_secrets(self) -> bool:
        """Whether callers' requests and API keys are shown: not to other machines that may only read."""
        return self.may_write or not self.is_open

    def let_in(self, request: Request) -> Response | None:
        """Return the answer to a client with the printed address: a cookie, and a redirect without the token."""
        offered = parse_qs(request.query).get("token", [""])[-1]
        if request.method != "GET" or not offered:
            return None
        if not compare_digest(offered.encode(), self.token.encode()):
            return refuse(
                "This address belongs to an earlier start of the server. Use the one that it printed at its last start."
            )
        cookie = f"{self.cookie}={self.session}; Path=/{CONSOLE_SEGMENT}; HttpOnly; SameSite=Strict"
        return Response(303, (("Location", f"/{CONSOLE_SEGMENT}/"), ("Set-Cookie", cookie), *HEADERS))

    def find_objection(self, request: Request, *, is_page: bool = False) -> str:
        """Return why a request is rejected; empty if it is not.

        Args:
            request: any request to the console.
            is_page: whether it requests the page itself, which a user may open from anywhere except another site.
        """
        headers = join_headers(request)
        if objection := self.find_objection_to_origin(request):
            return objection
        site = headers.get("sec-fetch-site", "")
        if site not in (NAVIGATED if is_page else {"same-origin"}):
            return f"The request comes from another site or from no browser: Sec-Fetch-Site is {site!r}."
        if not self._has_session(value for name, value in request.headers if name.lower() == "cookie"):
            return "Open the console by the address that `turnout serve` or `turnout console` prints."
        if request.method not in {"GET", "HEAD"}:
            return self._find_objection_to_write(request, headers)
        return ""

    def find_objection_to_origin(self, request: Request) -> str:
        """Return why requests from this client or with this `Host` are rejected; empty if they are not."""
        if self.is_open:
            return ""
        headers = join_headers(request)
        if not is_loopback_address(request.client):
            return "Only browsers on this machine may use the console."
        if any(PROXIES.fullmatch(name) for name in headers):
            return "The console is not served through a proxy."
        host = domain_of(headers.get("host", ""))[0]
        if not is_loopback(host):
            return f"The request's Host is {host!r}, not an address of this machine."
        return ""

    def _has_session(self, cookies: Iterable[str]) -> bool:
        """Whether one of the cookies is this run's.

        Other programs on this machine may set any names, values and numbers of cookies.
        """
        pairs = (pair.strip().partition("=") for text in cookies for pair in text.split(";"))
        return any(
            name == self.cookie and compare_digest(value.encode(), self.session.encode()) for name, _, value in pairs
        )

    def _find_objection_to_write(self, request: Request, headers: dict[str, str]) -> str:
        if request.method != "POST":
            return f"{request.method} is not a method of the console."
        if not self.may_write:
            return "This console is read-only. `--console-write` allows changes from other machines."
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return "Send changes as application/json."
        origin = headers.get("origin", "")
        if origin.partition("://")[2] != headers.get("host", ""):
            return f"The request's Origin is {origin!r}, not the console's own."
        return ""


def join_headers(request: Request) -> dict[str, str]:
    """Return the headers by lower-case name. Repeated ones are joined, so that each value must be allowed."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    return headers


def refuse(sentence: str) -> Response:
    """Return a rejection for users and programs."""
    text = f"{sentence}\n".encode()
    return Response(403, (("Content-Type", "text/plain; charset=utf-8"), *HEADERS), text)
