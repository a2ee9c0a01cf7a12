"""The common parts of all pages: frame, headers, and the addresses of other pages."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlencode

from turnout import __version__
from turnout.gateway.docs.html import Child, join, tag
from turnout.http_server.messages import Request, Response
from turnout.protocol.codecs.content_encoding import accepts_gzip
from turnout.protocol.naming import CONSOLE_SEGMENT, DOCS_SEGMENT

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
    ("Vary", "Accept-Encoding, Host"),
)

FILES = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class PageFrame:
    """The parts of the request that a page needs.

    Args:
        base: the server's address as the reader reaches it, `http://127.0.0.1:8080`.
        stages: the stages that the reader may see.
        stage: the stage of this page.
        platform: the project's name.
        is_open: whether a browser can get the stage's document, because the stage requires no authentication.
        has_console: whether the reader may also open the console.
    """

    base: str
    stages: tuple[str, ...]
    stage: str
    platform: str
    is_open: bool
    has_console: bool


def address_of(*parts: str, **query: str) -> str:
    """Return the path of a page."""
    path = "/".join(["", DOCS_SEGMENT, *(quote(part, safe="") for part in parts)])
    return f"{path}?{urlencode(query)}" if query else path


def try_address(model: str, version: str = "") -> str:
    """Return the address of the console's form for a model."""
    return f"/{CONSOLE_SEGMENT}/#try/{quote(model, safe='')}" + (f"/{quote(version, safe='')}" if version else "")


def make_page(frame: PageFrame, title: str, *content: Child, model: str = "") -> bytes:
    """Return a whole page.

    Args:
        frame: the common parts.
        title: the page's title.
        content: the main part.
        model: the model to which the stages' links lead; empty for their lists.
    """
    stages = tag(
        "nav",
        (
            tag(
                "a",
                name,
                href=address_of(name, model) if model else address_of(name),
                aria_current="page" if name == frame.stage else None,
            )
            for name in frame.stages
        ),
        aria_label="Stages",
    )
    console = tag("a", "Console", href=f"/{CONSOLE_SEGMENT}/") if frame.has_console else None
    document = tag("a", "openapi.json", href=f"/{frame.stage}/openapi.json") if frame.is_open else None
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{title} · {frame.platform} API"),
            tag("link", rel="icon", href=f"/{DOCS_SEGMENT}/icon.svg", type="image/svg+xml"),
            tag("link", rel="stylesheet", href=f"/{DOCS_SEGMENT}/style.css"),
        ),
        tag(
            "body",
            tag("a", "Skip to the content", href="#main", class_="skip"),
            tag(
                "header",
                tag("a", f"{frame.platform} API", href=address_of(frame.stage), class_="name"),
                stages,
                tag("span", document, " ", console, class_="links"),
            ),
            tag("main", content, id="main"),
            tag("footer", f"Turnout {__version__}. Generated from this stage's OpenAPI document."),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{join([page])}\n".encode()


def answer_html(request: Request, page: bytes, status: int = 200) -> Response:
    """Return a page as a response."""
    return _answer(request, page, "text/html; charset=utf-8", status)


def answer_file(request: Request, name: str) -> Response:
    """Return one of `FILES` as a response."""
    return _answer(request, _read_file(name), FILES[name])


def answer_json(request: Request, body: bytes, name: str) -> Response:
    """Return a file to download."""
    response = _answer(request, body, "application/json")
    return Response(
        response.status, (*response.headers, ("Content-Disposition", f'attachment; filename="{name}"')), response.body
    )


def answer_text(status: int, sentence: str) -> Response:
    """Return a rejection."""
    return Response(status, (("Content-Type", "text/plain; charset=utf-8"), *HEADERS), f"{sentence}\n".encode())


@cache
def _read_file(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


def _answer(request: Request, body: bytes, content_type: str, status: int = 200) -> Response:
    headers = {name.lower(): value for name, value in request.headers}
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    if status == 200 and etag in headers.get("if-none-match", ""):
        return Response(304, (("ETag", etag), *HEADERS))
    own: tuple[tuple[str, str], ...] = (("Content-Type", content_type), ("ETag", etag))
    if accepts_gzip(headers.get("accept-encoding", "")):
        body, own = gzip.compress(body, 5, mtime=0), (*own, ("Content-Encoding", "gzip"))
    return Response(status, (*own, *HEADERS), body)
