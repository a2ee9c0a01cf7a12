"""Webhooks: the description of a request that has ended, sent to the address that its caller named.

Names are resolved once, and the connection goes to the address that was checked: a name that leads to a public address
for the check and to a private one for the connection reaches nothing (DNS rebinding). Redirects are not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import logging
import socket
import sqlite3
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import orjson

from turnout.gateway.requests.rows import read_stored
from turnout.gateway.requests.signing import SIGNATURE_HEADER, sign_webhook
from turnout.protocol.requests.description import describe

log = logging.getLogger("turnout.requests")

MOST_TRIES = 8
"""Deliveries of one webhook: after 5, 10, 20 seconds and so on, 11 minutes in all."""

FIRST_BACK_OFF_S = 5.0
ANSWER_S = 10.0
"""How long a receiver may take."""

NAT64, LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48")
"""Addresses that stand for IPv4 addresses."""

Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is due.

    Args:
        seq: of the request.
        attempt: which delivery of it this is, from 1.
        address: where it goes.
        may_be_private: whether that may be a private address.
        body: what is sent.
        identifier: of the request, for the log.
    """

    seq: int
    attempt: int
    address: str
    may_be_private: bool
    body: bytes
    identifier: str


class CallbackError(Exception):
    """A webhook was not delivered; the message says why."""


def claim_deliveries(connection: sqlite3.Connection, now: float, most: int) -> list[Delivery]:
    """Return webhooks that are due, and put their next tries off: a process that ends meanwhile delays them only."""
    rows = connection.execute(
        "SELECT * FROM requests WHERE callback_state = 'waiting' AND callback_at <= ? ORDER BY callback_at LIMIT ?",
        (now, most),
    ).fetchall()
    deliveries = []
    for row in rows:
        stored, attempt = read_stored(row), row["callback_tries"] + 1
        connection.execute(
            "UPDATE requests SET callback_tries = ?, callback_at = ? WHERE seq = ?",
            (attempt, now + FIRST_BACK_OFF_S * 2 ** (attempt - 1) + ANSWER_S, row["seq"]),
        )
        known = stored.description
        address = f"/{known.stage}/requests/{known.id}/answer"
        body = orjson.dumps(describe(stored.progress, replace(known, answer_address=address, callback="")))
        private = bool(row["callback_private"])
        deliveries.append(Delivery(row["seq"], attempt, row["callback"], private, body, known.id))
    return deliveries


def end_delivery(connection: sqlite3.Connection, delivery: Delivery, *, is_delivered: bool) -> None:
    """Note that a webhook was delivered, or that no further try follows."""
    if is_delivered or delivery.attempt >= MOST_TRIES:
        connection.execute(
            "UPDATE requests SET callback_state = ? WHERE seq = ? AND callback_tries = ?",
            ("delivered" if is_delivered else "failed", delivery.seq, delivery.attempt),
        )


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name.

    Raises:
        OSError: there are none.
    """
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def deliver(delivery: Delivery, secret: str, now: float, *, resolve: Resolve = resolve) -> None:
    """Send a webhook. Blocks.

    Raises:
        CallbackError: it was not delivered.
    """
    parts = urlsplit(delivery.address)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = resolve(host, port)
        for address in addresses:
            check_address_is_public(address, may_be_private=delivery.may_be_private)
        connection = _PinnedConnection(host, port, addresses[0], is_encrypted=parts.scheme == "https")
        try:
            target = parts.path or "/"
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "turnout",
                SIGNATURE_HEADER: sign_webhook(secret, delivery.body, now),
            }
            connection.request("POST", f"{target}?{parts.query}" if parts.query else target, delivery.body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, UnicodeError, http.client.HTTPException) as error:  # UnicodeError: an invalid host name
        raise CallbackError(f"{host}: {error}") from error
    if not 200 <= status < 300:
        raise CallbackError(f"{host} answered with status {status}")


def check_address_is_public(address: str, *, may_be_private: bool) -> None:
    """Refuse private, loopback, link-local and other special addresses, also spelled as IPv6.

    Raises:
        CallbackError: it is one.
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
    """A connection to an address that was resolved before, under the host's own name."""

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
