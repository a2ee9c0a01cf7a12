"""A page for browsers beside the API, as the gateway knows it; `turnout.console` makes it."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.gateway.api.gateway import Front
from turnout.gateway.http.messages import Handler


@dataclass(frozen=True, slots=True)
class Console:
    """A console of one server.

    Args:
        handle: answers everything below `/console`, whoever asks: it has a check of its own.
        front: answers browsers that ask for `/`.
        address: to open, with this run's token.
    """

    handle: Handler
    front: Front
    address: str
