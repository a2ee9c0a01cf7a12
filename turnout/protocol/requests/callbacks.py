"""Checks the address of a caller's webhook."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from turnout.protocol.requests.refusals import Refusal


class CallbackRules(Protocol):
    """A stage's rules for callbacks: `host` or `host:port`, and whether these may have private addresses."""

    @property
    def callback_hosts(self) -> Sequence[str]:
        """The hosts to which results may be sent."""
        ...

    @property
    def allow_private_callbacks(self) -> bool:
        """Whether they may have private addresses."""
        ...


def check_callback(address: str, policy: CallbackRules) -> None:
    """Reject an address that the stage does not allow.

    Raises:
        Refusal: INVALID_CALLBACK.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refusal("INVALID_CALLBACK", "the callback is not an address") from None
    schemes = {"https", "http"} if policy.allow_private_callbacks else {"https"}
    if parts.scheme not in schemes or not host or parts.username is not None or not address.isascii():
        raise Refusal("INVALID_CALLBACK", f"the callback: expected an address that begins with {min(schemes)}://")
    if not address.isprintable() or " " in address or len(address) > 2000:
        raise Refusal("INVALID_CALLBACK", "the callback is not an address")
    default = 443 if parts.scheme == "https" else 80
    names = {f"{host}:{port or default}"} | ({host} if port in {None, default} else set())
    if not names & set(policy.callback_hosts):
        allowed = ", ".join(policy.callback_hosts) or "none"
        message = f"the callback's host {host[:100]} is not among the stage's `callback_hosts`: {allowed}"
        raise Refusal("INVALID_CALLBACK", message)
    _check_literal(host, policy)


def _check_literal(host: str, policy: CallbackRules) -> None:
    """Reject a private address in the callback itself. Others are detected when the name is resolved."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # accepts forms such as 2130706433 and 0x7f.1
        except OSError:
            return
    if not address.is_global and not policy.allow_private_callbacks:
        raise Refusal("INVALID_CALLBACK", f"the callback's host {host} is a private address")
