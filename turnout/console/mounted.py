"""The console as a part of `turnout serve`: made on first use, so that startup does not wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from turnout.console.door import Door
from turnout.http_server.messages import Handler, Request, Response
from turnout.http_server.navigation import lead_browser
from turnout.protocol.naming import CONSOLE_SEGMENT


@dataclass(frozen=True, slots=True)
class MountedConsole:
    """The console of one server, as used by `turnout.gateway.services.console.Console`.

    Args:
        handle: answers every path below `/console`.
        front: answers browsers that request `/`.
        address: the address to open, with this run's token.
    """

    handle: Handler
    front: Callable[[Request], Response | None]
    address: str


def make_console(manifest: Path, door: Door, url: str, *, capture: Path | None = None) -> MountedConsole:
    """Make the console of one server.

    Args:
        manifest: the project's manifest.
        door: decides about access; the same in all workers.
        url: the server's URL.
        capture: the file to which it captures requests, or None.
    """
    made: list[Handler] = []

    def handle(request: Request) -> Response | Awaitable[Response]:
        if not made:
            from turnout.canary.rollout.stage_control import StageTarget
            from turnout.console.handler import ConsoleHandler
            from turnout.console.subject import Subject

            subject = Subject(manifest, StageTarget("local", url), is_mounted=True, capture=capture)
            made.append(ConsoleHandler(subject, door).handle)
        return made[0](request)

    return MountedConsole(handle, partial(lead_browsers, door), f"{url}/{CONSOLE_SEGMENT}?token={door.token}")


def lead_browsers(door: Door, request: Request) -> Response | None:
    """Redirect a browser that opens `/` to the console if it has access; others get API Gateway's own answer."""
    if door.find_objection_to_origin(request):
        return None
    return lead_browser(request, f"/{CONSOLE_SEGMENT}/")
