"""The pages for browsers: the documentation, and the redirect from `/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from turnout.gateway.api.gateway import Front, Gateway
from turnout.gateway.docs.handler import DocsHandler, DocsSource
from turnout.gateway.editions.edition import Edition
from turnout.gateway.rules.stages import StageSettings
from turnout.gateway.services.access import Guard
from turnout.gateway.services.console import Console
from turnout.http_server.messages import Request, Response

if TYPE_CHECKING:
    from turnout.gateway.docs.shown import Shown


def make_docs(
    edition: Edition,
    guard: Guard,
    live: Callable[[str], StageSettings | None],
    *,
    is_public: bool,
    console: Console | None,
) -> DocsHandler:
    """Make the API's pages for users, for one edition."""

    def make() -> Shown:
        from turnout.gateway.docs.shown import make_shown

        return make_shown(edition.project, edition.plan, edition.documents, live)

    is_open = any(stage.auth == "none" for api in edition.plan.apis for stage in api.stages)
    source = DocsSource(make, guard, is_public=is_public, has_console=console is not None, has_open_stage=is_open)
    return DocsHandler(source)


def settings_of(gateway: Gateway, stage: str) -> StageSettings | None:
    """Return a stage's current settings."""
    stage_state = gateway.stages.snapshot.stages.get(stage)
    return None if stage_state is None else stage_state.settings


def make_front(console: Console | None, docs: DocsHandler) -> Front:
    """Return a handler that redirects browsers from `/` to the console or the documentation.

    It is the documentation if they may not open the console.
    """

    def lead(request: Request) -> Response | None:
        response = None if console is None else console.front(request)
        return response if response is not None else docs.lead(request)

    return lead
