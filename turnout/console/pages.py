"""The console's files: the page, its modules and its style sheet, each with a digest as ETag."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from turnout.console.door import HEADERS
from turnout.http_server.messages import Request, Response

FOLDER = Path(__file__).resolve().parent / "static"

TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file with its headers."""

    content_type: str
    etag: str
    packed: bytes


@cache
def load_pages() -> Mapping[str, Page]:
    """Return every file by its path below the folder: `app.js`, `vendor/preact.js`."""
    pages = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in TYPES:
            data = path.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            pages[path.relative_to(FOLDER).as_posix()] = Page(TYPES[path.suffix], etag, gzip.compress(data, mtime=0))
    return pages


def answer_page(request: Request, name: str) -> Response:
    """Return the file with this name, or 304 for a browser that has it; 404 if there is none."""
    page = load_pages().get(name)
    if page is None:
        return Response(404, (("Content-Type", "text/plain"), *HEADERS), b"There is no such file.\n")
    headers = (("ETag", page.etag), ("Cache-Control", "no-cache"), *HEADERS)
    asked = next((value for field, value in request.headers if field.lower() == "if-none-match"), "")
    if page.etag in asked:
        return Response(304, headers)
    return Response(200, (("Content-Type", page.content_type), ("Content-Encoding", "gzip"), *headers), page.packed)
