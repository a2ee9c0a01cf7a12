"""Sockets that are bound before anything slow happens, so that a port in use is reported immediately."""

from __future__ import annotations

import socket
import sys


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind every address of the host; with port 0 only the first, because each would get a different port.

    Raises:
        OSError: the host is unknown, or an address cannot be bound.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            bound.append(_bind(family, kind, protocol, address))
            if port == 0:
                break
    except OSError:
        for made in bound:
            made.close()
        raise
    return bound


def _bind(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[object, ...]
) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait a minute for the port
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # otherwise it would also take the IPv4 port
        made.settimeout(0)  # as asyncio requires
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
