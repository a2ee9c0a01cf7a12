"""Who may use what is not the API: programs on this machine, whatever address the server listens on.

Put around the control plane, Lambda's Invoke API and every other service of the gateway, which all act without asking
for a signature.

A page that a browser shows must not reach them either, under another site's name that leads here (DNS rebinding) or
from another site; nor must strangers by way of a proxy on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Collection

from turnout.gateway.api.exchange import domain_of
from turnout.gateway.http.messages import Handler, Request, Response
from turnout.gateway.services.aws_wire import AwsError
from turnout.system.loopback import is_loopback, is_loopback_address

BROWSERS = frozenset({"origin", "sec-fetch-site"})
"""What browsers send with their requests and no other client does."""

PROXIES = re.compile(
    "|".join(
        (
            # RFC 7239, RFC 9110, and what nginx, Apache, HAProxy, Caddy, Traefik, Squid and Envoy add
            r"via|max-forwards|proxy-.*|forwarded(-.*)?|x-forwarded(-.*)?|x-forward-for|x-real-.*|x-original-.*",
            r"x-(client|remote|originating|proxyuser)-?(ip|addr|host|user)|client-ip|(x-)?(true|cluster)-client-ip",
            r"x-cluster-client-ip|x-proxy-.*|x-url-scheme|x-scheme|front-end-https|x-ssl-.*|ssl-client-.*|x-envoy-.*",
            r"x-haproxy-.*|x-traefik-.*|x-varnish|x-squid-.*|x-bluecoat-.*|surrogate-capability|x-request-start",
            r"x-queue-start|x-cache.*|x-proxied-.*|x-nginx-.*|x-apache-.*|x-rewrite-url|x-host|x-server-.*",
            # content networks, load balancers of clouds, tunnels
            r"cdn-loop|cf-.*|cloudfront-.*|x-amz-cf-id|x-amzn-(trace-id|oidc-.*|mtls-.*|tls-.*)|fastly-.*|x-fastly-.*",
            r"akamai-.*|x-akamai-.*|x-azure-.*|x-arr-.*|x-fd-.*|x-appengine-.*|x-cloud-trace-context|x-gfe-.*",
            r"x-goog-(iap|authenticated).*|fly-.*|x-vercel-.*|x-nf-.*|do-connecting-ip|x-oracle-.*|ali-cdn-.*|x-sucuri-.*",
            r"incap-.*|x-incap-.*|wl-proxy-.*|tailscale-.*|x-tailscale-.*|ngrok-.*|x-ngrok-.*|x-pomerium-.*|x-auth-request-.*",
            r"x-appgw-.*|x-railway-.*|x-github-codespaces|cdn-.*|x-http-via|x-coming-from|x-lb(-.*)?|x-edge-.*|x-sigsci-.*",
        )
    )
)
"""Headers that proxies add for a client that is elsewhere."""


def local_only(handle: Handler, allowed: Collection[str] = ()) -> Handler:
    """The same handler for programs on this machine; others are refused with 403.

    Args:
        handle: answers those that are let in.
        allowed: headers of proxies, in lower case, that such programs send, too.
    """

    def guarded(request: Request) -> Response | Awaitable[Response]:
        reason = find_objection(request, allowed)
        return AwsError(403, "AccessDeniedException", reason).response() if reason else handle(request)

    return guarded


def find_objection(request: Request, allowed: Collection[str] = ()) -> str:
    """Why a request may not be let in; empty where it may."""
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
