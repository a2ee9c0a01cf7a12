"""Cross-origin requests to signed addresses: pages that may call a stage may send parts and fetch answers.

On AWS the addresses are S3's, and the bucket has such rules. Source: Fetch Standard, "CORS protocol".
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from turnout.gateway.api.fields import ORIGIN, fields_of
from turnout.http_server.messages import Request, Response
from turnout.manifest.access import Cors
from turnout.protocol.aws.cors import ANY_ORIGIN, EXPOSED

METHODS = "GET, HEAD, PUT"

_EXPOSED = f"{EXPOSED}, Accept-Ranges, Content-Range, ETag"
_ASKED = "access-control-request-headers"


def answer_preflight(request: Request, cors: Cors) -> Response:
    """Return the response to an `OPTIONS` request; like S3, it allows every header that the page names."""
    if not _allows(request, cors):
        return Response(403, (("Content-Type", "application/json"),), b'{"message":"This origin is not allowed."}')
    asked = next((value for name, value in request.headers if name.lower() == _ASKED), "")
    allowed = (("Access-Control-Allow-Headers", asked),) if asked else ()
    methods = (("Access-Control-Allow-Methods", METHODS), ("Access-Control-Max-Age", str(cors.max_age_s)))
    return with_cors(request, cors, Response(204, (*methods, *allowed)))


def with_cors(request: Request, cors: Cors, response: Response) -> Response:
    """Return the response with the headers that let an allowed page read it."""
    if not _allows(request, cors):
        return replace(response, headers=(*response.headers, ("Vary", "Origin")))
    is_open = ANY_ORIGIN in cors.origins
    origin = ANY_ORIGIN if is_open else fields_of(request).known[ORIGIN] or ""
    added = (("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED))
    there = {name.lower() for name, _ in (*added, ("Vary", ""))}
    kept = tuple(field for field in response.headers if field[0].lower() not in there)
    return replace(response, headers=(*kept, *added, *(() if is_open else (("Vary", "Origin"),))))


async def wait_with_cors(request: Request, cors: Cors, pending: Awaitable[Response]) -> Response:
    """Do the same for a response that is awaited."""
    return with_cors(request, cors, await pending)


def _allows(request: Request, cors: Cors) -> bool:
    origin = fields_of(request).known[ORIGIN]
    return bool(origin) and (ANY_ORIGIN in cors.origins or origin in cors.origins)
