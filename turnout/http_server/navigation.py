"""Recognizes requests of a user who opens a page in a browser's tab, and redirects them."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.http_server.messages import Request, Response


def is_navigation(headers: dict[str, str]) -> bool:
    """Whether a user opens a page in a tab. Browsers that send no `Sec-Fetch-*` still accept HTML."""
    return (
        headers.get("sec-fetch-mode", "navigate") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
        and accepts_html(headers.get("accept", ""))
    )


def accepts_html(accepted: str) -> bool:
    """Whether an `Accept` header names HTML; `*/*`, which programs send, is not enough."""
    return any(weight > 0 for media_type, weight in _read_accepted(accepted) if media_type == "text/html")


def _read_accepted(accepted: str) -> Iterator[tuple[str, float]]:
    for media_range in accepted.split(","):
        media_type, *parameters = (part.strip().lower() for part in media_range.split(";"))
        weights = [value for name, _, value in (part.partition("=") for part in parameters) if name.strip() == "q"]
        try:
            yield media_type, float(weights[0]) if weights else 1.0
        except ValueError:
            yield media_type, 0.0


def lead_browser(request: Request, location: str) -> Response | None:
    """Redirect a browser that opens `/` in a tab to another page; all others get API Gateway's own answer."""
    headers = {name.lower(): value for name, value in request.headers}
    if request.method not in {"GET", "HEAD"} or not is_navigation(headers):
        return None
    links = '</docs>; rel="service-doc", </openapi.json>; rel="service-desc"'
    return Response(302, (("Location", location), ("Link", links), ("Cache-Control", "no-store"), ("Vary", "Accept")))
