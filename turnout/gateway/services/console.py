"""The gateway's interface to the console page, which `turnout.console` makes."""

from __future__ import annotations

from typing import Protocol

from turnout.gateway.api.gateway import Front
from turnout.http_server.messages import Handler


class Console(Protocol):
    """The console of one server."""

    @property
    def handle(self) -> Handler:
        """Answers every path below `/console`, with a check of its own."""

    @property
    def front(self) -> Front:
        """Answers browsers that request `/`."""

    @property
    def address(self) -> str:
        """The address to open, with this run's token."""
