"""A page for browsers beside the API, as the gateway knows it; `turnout.console` makes it."""

from __future__ import annotations

from typing import Protocol

from turnout.gateway.api.gateway import Front
from turnout.http_server.messages import Handler


class Console(Protocol):
    """The console of one server."""

    @property
    def handle(self) -> Handler:
        """Answers every path below `/console`: it has a check of its own."""

    @property
    def front(self) -> Front:
        """Answers browsers that ask for `/`."""

    @property
    def address(self) -> str:
        """To open, with this run's token."""
