"""`/docs`: selects the page for a path and a reader, with the address for its examples."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

import orjson

from turnout.gateway.docs.access import Reader, find_reader
from turnout.http_server.messages import Handler, Request, Response
from turnout.http_server.navigation import lead_browser
from turnout.protocol.naming import DOCS_SEGMENT, GRAPH

if TYPE_CHECKING:  # imported for the first page: most servers show none
    from turnout.gateway.docs.layout import PageFrame
    from turnout.gateway.docs.shown import Shown, ShownStage

_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


@dataclass(frozen=True)
class DocsSource:
    """The source of the pages, and the check of their readers.

    Args:
        make: makes the content for the edition; called with the first request.
        guard: the services' guard.
        is_public: whether anyone may read about stages without authentication.
        has_console: whether the server has a console.
        has_open_stage: whether a stage requires no authentication.
    """

    make: Callable[[], Shown]
    guard: Callable[[Handler], Handler]
    is_public: bool = False
    has_console: bool = False
    has_open_stage: bool = True

    @cached_property
    def shown(self) -> Shown:
        """The content of the pages."""
        return self.make()


class DocsHandler:
    """Answers everything below `/docs`.

    Args:
        source: the source of the pages.
    """

    def __init__(self, source: DocsSource) -> None:
        self._source = source

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request."""
        from turnout.gateway.docs.layout import answer_text

        if request.method not in {"GET", "HEAD"}:
            return answer_text(405, f"{request.method} is not a method of /{DOCS_SEGMENT}.")
        reader = find_reader(request, self._source.guard, is_public=self._source.is_public)
        if reader.refusal:
            return answer_text(403, reader.refusal)
        return asyncio.to_thread(self._answer, request, reader)

    def lead(self, request: Request) -> Response | None:
        """Redirect a browser that opens `/` here, if there is something for it to read."""
        reader = find_reader(request, self._source.guard, is_public=self._source.is_public)
        if reader.refusal or not (reader.is_trusted or self._source.has_open_stage):
            return None  # build no page here: this runs on the event loop
        return lead_browser(request, f"/{DOCS_SEGMENT}")

    def _stages_for(self, reader: Reader) -> dict[str, ShownStage]:
        stages = self._source.shown.stages
        return {name: stage for name, stage in stages.items() if reader.is_trusted or stage.plan.auth == "none"}

    def _answer(self, request: Request, reader: Reader) -> Response:
        from turnout.gateway.docs.layout import FILES, PageFrame, answer_file, answer_html, answer_json, answer_text

        parts = [unquote(part) for part in request.path.split("/")[2:] if part]
        if len(parts) == 1 and parts[0] in FILES:
            return answer_file(request, parts[0])
        shown, stages = self._source.shown, self._stages_for(reader)
        if not stages:
            return answer_text(403, "Every stage requires authentication: its documentation needs the token.")
        stage = stages.get(parts[0]) if parts else next(iter(stages.values()))
        if stage is None:
            return answer_text(404, f"Unknown stage. Known stages: {', '.join(stages)}.")
        has_console = self._source.has_console and reader.is_trusted
        frame = PageFrame(
            base=find_base(request),
            stages=tuple(stages),
            stage=stage.plan.name,
            platform=shown.project.manifest.platform,
            is_open=stage.plan.auth == "none",
            has_console=has_console,
        )
        page = make_stage_page(shown, stage, frame, parts[1:], _words_of(request))
        if page is not None:
            return answer_html(request, page)
        body = find_request(shown, parts[1:])
        return (
            answer_text(404, "There is no such page.") if body is None else answer_json(request, body, "request.json")
        )


def make_stage_page(shown: Shown, stage: ShownStage, frame: PageFrame, parts: list[str], words: str) -> bytes | None:
    """Return the page of a path below a stage; None if there is none.

    Args:
        shown: the content for the edition.
        stage: the stage that the path names.
        frame: frame of the page.
        parts: segments of the path after the stage.
        words: filter of the list of models.
    """
    from turnout.gateway.docs.index_page import make_index
    from turnout.gateway.docs.model_page import make_model_page

    match parts:
        case []:
            return make_index(shown, stage, frame, words)
        case [model] if model in shown.versions or model in shown.graphs:
            return make_model_page(shown, stage, frame, model)
        case [model, version] if any(candidate.version.name == version for candidate in shown.versions.get(model, ())):
            return make_model_page(shown, stage, frame, model, version)
        case _:
            return None


def find_request(shown: Shown, parts: list[str]) -> bytes | None:
    """Return the body of `MODEL/VERSION/NUMBER.json`: a version's example."""
    if len(parts) != 3 or parts[1] == GRAPH:
        return None
    model, version, file = parts
    number = re.fullmatch(r"([1-9][0-9]{0,6})\.json", file)
    for candidate in shown.versions.get(model, ()):
        if candidate.version.name == version and number is not None:
            examples = shown.project.examples_of(candidate.version)
            if int(number[1]) <= len(examples):
                return orjson.dumps(examples[int(number[1]) - 1].request)
    return None


def find_base(request: Request) -> str:
    """Return the address by which the reader reaches the server, from its headers.

    An invalid `Host` is not repeated.
    """
    headers = {name.lower(): value for name, value in request.headers}
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = "127.0.0.1"
    scheme = "https" if headers.get("x-forwarded-proto", "").lower() == "https" else "http"
    return f"{scheme}://{host}"


def _words_of(request: Request) -> str:
    return parse_qs(request.query).get("q", [""])[-1][:200]
