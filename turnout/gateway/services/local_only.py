"""Allows only programs on this machine, whatever address the server listens on.

It protects the control plane, Lambda's Invoke API and all other services of the gateway, which act without requiring a
signature.

Web pages must not reach them, either, through another site's name that leads here (DNS rebinding) or from another site;
nor other machines through a proxy on this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection

from turnout.gateway.services.aws_wire import AwsError
from turnout.http_server.clients import PROXIES, domain_of
from turnout.http_server.messages import Handler, Request, Response
from turnout.loopback import is_loopback, is_loopback_address

BROWSERS = frozenset({"origin", "sec-fetch-site"})
"""Header fields that only browsers send."""


def local_only(handle: Handler, allowed: Collection[str] = ()) -> Handler:
    """Return the handler for programs on this machine; others are rejected with 403.

    Args:
        handle: answers allowed requests.
        allowed: headers of proxies, in lower case, that such programs send, too.
    """

    def guarded(request: Request) -> Response | Awaitable[Response]:
        reason = find_objection(request, allowed)
        return AwsError(403, "AccessDeniedException", reason).response() if reason else handle(request)

    return guarded


def find_objection(request: Request, allowed: Collection[str] = ()) -> str:
    """Return why a request is not allowed; empty if it is."""
    if not is_loopback_address(request.client):
        return "Only clients on this machine may use this"
    host = ""
    for name, value in request.headers:
        lowered = name.lower()
        if lowered in BROWSERS:
            return f"Not for browsers: the request has a header {name}"
        if PROXIES.fullmatch(lowered) and lowered not in allowed:
            return f"Not for clients behind a proxy: the request has a header {name}"
        if lowered == "host":
            host = domain_of(value)[0]
    if host and not is_loopback(host):
        return f"The request's Host is {host!r}, not an address of this machine's own"
    return ""
