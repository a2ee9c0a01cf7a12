"""The state that all connections of one server share: the handler, the limits, and the memory in use."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from turnout.http_server.busy_poll import BusyPoll
from turnout.http_server.messages import BodySink, Handler, Request, Response
from turnout.http_server.reader import Limits

Log = Callable[[Request, Response, float], None]
"""Called for every answer, with the seconds between the request's last byte and the answer's first."""

CountRefusal = Callable[[int], None]
"""Called with the status of every answer that the server gave to a client without the handler."""

Admit = Callable[[Request], "Response | None"]
"""Rejects a request after its head and before its body, or returns None."""

Receive = Callable[[Request], "BodySink | None"]
"""Returns the receiver of a request's body after its head, or None to keep it in memory."""

SMALL_BODY_BYTES = 65_536
"""A body up to this size is always read: 4,096 of them take 256 MB."""


SURELY_IDLE_S = 1.0
"""A connection that was answered more recently may have its next request in flight."""


class ClientAddress(NamedTuple):
    """One group of client addresses whose connections are counted together.

    Args:
        name: an address, or an IPv6 network.
        is_loopback: whether it is this machine, possibly a proxy with all of its clients.
    """

    name: str
    is_loopback: bool


class Member(Protocol):
    """The service's interface to a connection."""

    def check_time(self) -> None:
        """End it if something took too long."""
        ...

    def drain(self) -> None:
        """The server stops."""
        ...

    @property
    def expects_request(self) -> bool:
        """Whether its client's next request may be in flight."""
        ...

    def abort(self) -> None:
        """Close it immediately."""
        ...

    @property
    def idle_since(self) -> float | None:
        """When its last answer was written, on the service's clock; None if it has work or never had any."""
        ...


class Service:
    """The state that all connections share.

    Args:
        handle: answers requests.
        limits: limits of clients.
        refusals: the answers given without the handler, by status.
        log: called with every answer, or None.
        admit: called before a body is read, or None.
        receive: called to choose the receiver of a body, or None.

    Attributes:
        now: seconds of a clock that is read once per sweep.
        date: the `Date` line of this second.
        draining: whether the server stops; every answer is then its connection's last.
        streams: number of chunked answers that have not ended.
        body_bytes: bytes of bodies that are being read or whose requests are being answered.
        on_close: called for every closed connection, or None.
        count_refusal: called for every malformed, too large or late request, and for clients over a limit, or None.
        busy_poll: keeps the loop awake between requests, or None.
    """

    def __init__(
        self,
        handle: Handler,
        limits: Limits,
        refusals: Mapping[int, Response],
        log: Log | None,
        admit: Admit | None = None,
        receive: Receive | None = None,
    ) -> None:
        self.receive = receive
        self.handle = handle
        self.limits = limits
        self.refusals = refusals
        self.log = log
        self.admit = admit
        self.now = 0.0
        self.date = ""
        self.draining = False
        self.body_bytes = 0
        self.connections: set[Member] = set()
        self.tasks: set[asyncio.Future[Any]] = set()
        self.streams = 0
        self.emptied = asyncio.Event()
        self.on_close: Callable[[], None] | None = None
        self.count_refusal: CountRefusal | None = None
        self.busy_poll: BusyPoll | None = None
        self._incomplete: dict[ClientAddress, int] = {}

    def forget(self, connection: Member) -> None:
        """Release a closed connection, and wake what waits for the last one."""
        self.connections.discard(connection)
        if self.on_close is not None:
            self.on_close()
        if self.draining and not self.connections:
            self.emptied.set()

    def make_room(self) -> bool:
        """Return whether there is space for a new connection: the longest idle one is closed if necessary."""
        if len(self.connections) <= self.limits.max_connections:
            return True
        idle = [
            (since, id(connection), connection)
            for connection in self.connections
            if (since := connection.idle_since) is not None
        ]
        if not idle or self.now - min(idle)[0] < SURELY_IDLE_S:
            return False
        min(idle)[2].drain()
        return True

    def count_incomplete(self, origin: ClientAddress) -> bool:
        """Count a connection that waits for a whole request; return False if its address has too many.

        `discount_incomplete` must be called only if it was counted.
        """
        count = self._incomplete.get(origin, 0)
        if count >= self.most_incomplete(origin):
            return False
        self._incomplete[origin] = count + 1
        return True

    def discount_incomplete(self, origin: ClientAddress) -> None:
        """A counted connection has sent its request, or is gone."""
        count = self._incomplete[origin] - 1
        if count:
            self._incomplete[origin] = count
        else:
            del self._incomplete[origin]

    def most_incomplete(self, origin: ClientAddress) -> int:
        """The most connections without a whole request from one address: a quarter of all, or half on loopback."""
        limits = self.limits
        if origin.is_loopback:
            return min(limits.max_incomplete_loopback, max(2, limits.max_connections // 2))
        return min(limits.max_incomplete, max(1, limits.max_connections // 4))


@lru_cache(maxsize=4096)
def origin_of(client: str) -> ClientAddress:
    """Return the group of an address: the IPv4 address itself, or the IPv6 network of 64 bits.

    One client usually has a whole such network.
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ClientAddress(client, is_loopback=False)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv6Address):
        name = str(ipaddress.ip_network((address, 64), strict=False))
    else:
        name = str(address)
    return ClientAddress(name, is_loopback=address.is_loopback)
