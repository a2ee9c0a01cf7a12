"""Addresses of this machine, which are accessed directly, never through a proxy."""

from __future__ import annotations

from ipaddress import ip_address
from socket import inet_aton
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or a loopback address."""
    return host.lower().removesuffix(".") == "localhost" or is_loopback_address(host)


def is_loopback_address(text: str) -> bool:
    """Whether a text is a loopback address: 127.0.0.0/8, `::1`, or IPv4's written as IPv6; names are not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_loopback_url(url: str) -> bool:
    """Whether a URL's host leads to this machine; False if it has no host.

    Besides loopback addresses, clients connect to this machine for `0.0.0.0`, `::`, short forms such as `127.1`, and
    names under `localhost`. A server must not accept them as its own name: a web page of another site may use them.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return host is not None and (is_loopback(host) or _leads_here(host))


def _leads_here(host: str) -> bool:
    if host.removesuffix(".").endswith(".localhost"):
        return True
    try:
        address = ip_address(inet_aton(host)) if ":" not in host else ip_address(host)
    except (OSError, ValueError):
        return False
    return address.is_loopback or address.is_unspecified
