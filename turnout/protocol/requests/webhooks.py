"""Webhooks: a signed result, sent to the address that a caller chose.

A name is resolved once, and the connection uses the checked address: a name that has a public address for the check and
a private one for the connection has no effect (DNS rebinding). Redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

MOST_TRIES = 8
"""Deliveries of one webhook: after 5, 10, 20 seconds and so on, 11 minutes in total."""

FIRST_BACK_OFF_S = 5.0
ANSWER_S = 10.0
"""How long a receiver may take."""

SIGNATURE_HEADER = "x-turnout-signature"
"""Header of a webhook: `t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY`."""

NAT64, LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48")
"""Networks whose addresses represent IPv4 addresses."""

Resolve = Callable[[str, int], Sequence[str]]


class CallbackError(Exception):
    """A webhook was not delivered; the message gives the reason."""


def sign_webhook(secret: str, body: bytes, now: float) -> str:
    """Return the value of a webhook's `x-turnout-signature`."""
    seconds = str(int(now))
    digest = hmac.new(webhook_secret(secret).encode(), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def webhook_secret(secret: str) -> str:
    """Return the secret that signs webhooks. Receivers know it, so it cannot sign addresses."""
    return hmac.new(secret.encode(), b"webhooks", hashlib.sha256).hexdigest()


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name.

    Raises:
        OSError: it has none.
    """
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def send_webhook(
    address: str, body: bytes, secret: str, now: float, *, may_be_private: bool, resolve: Resolve = resolve
) -> None:
    """Send a webhook. Blocks.

    Args:
        address: address of the webhook.
        body: body to send.
        secret: secret of the project.
        now: the time, for the signature.
        may_be_private: whether the host may have a private address.
        resolve: returns the addresses of a host.

    Raises:
        CallbackError: it was not delivered.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = resolve(host, port)
        for resolved in addresses:
            check_address_is_public(resolved, may_be_private=may_be_private)
        connection = _PinnedConnection(host, port, addresses[0], is_encrypted=parts.scheme == "https")
        try:
            target = parts.path or "/"
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "turnout",
                SIGNATURE_HEADER: sign_webhook(secret, body, now),
            }
            connection.request("POST", f"{target}?{parts.query}" if parts.query else target, body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, UnicodeError, http.client.HTTPException) as error:  # UnicodeError: an invalid host name
        raise CallbackError(f"{host}: {error}") from error
    if not 200 <= status < 300:
        raise CallbackError(f"{host} answered with status {status}")


def check_address_is_public(address: str, *, may_be_private: bool) -> None:
    """Reject private, loopback, link-local and other special addresses, also in IPv6 form.

    Raises:
        CallbackError: it is such an address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        elif parsed in LOCAL_NAT64:
            parsed = ipaddress.IPv4Address(0)  # it leads wherever the network's owner chooses
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1] or parsed
    if not may_be_private and (not parsed.is_global or parsed.is_multicast):
        raise CallbackError(f"{address} is not a public address: `allow_private_callbacks` allows it")


class _PinnedConnection(http.client.HTTPConnection):
    """A connection to an address that was resolved before, with the host's own name."""

    def __init__(self, host: str, port: int, address: str, *, is_encrypted: bool) -> None:
        super().__init__(host, port, timeout=ANSWER_S)
        self._address = address
        self._tls = ssl.create_default_context() if is_encrypted else None
        self.default_port = 443 if is_encrypted else 80

    def connect(self) -> None:
        """Connect to the address."""
        self.sock = socket.create_connection((self._address, self.port), ANSWER_S)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
