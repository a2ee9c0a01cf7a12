"""CORS headers of responses that no function makes: those about asynchronous requests, and of signed addresses.

On AWS, the general router adds the former, and the latter are S3's: its bucket has such rules. Source: Fetch Standard,
"CORS protocol".
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace

from turnout.gateway.api.fields import ORIGIN, fields_of
from turnout.http_server.messages import Request, Response
from turnout.protocol.aws.cors import EXPOSE_HEADER, allows_origin, cors_headers

TRANSFER_METHODS = "GET, HEAD, PUT"
TRANSFER_HEADERS = ", Accept-Ranges, Content-Range, ETag"
"""Further headers of signed addresses that a page may read."""

_ASKED = "access-control-request-headers"


def answer_pages(
    request: Request, variables: Mapping[str, str], response: Response | Awaitable[Response], more: str = ""
) -> Response | Awaitable[Response]:
    """Return `with_cors` of a response, which may be awaited."""
    if isinstance(response, Response):
        return with_cors(request, variables, response, more)

    async def wait(pending: Awaitable[Response]) -> Response:
        return with_cors(request, variables, await pending, more)

    return wait(response)


def with_cors(request: Request, variables: Mapping[str, str], response: Response, more: str = "") -> Response:
    """Return the response with the CORS headers that a function would add, in place of stored ones of another request.

    Args:
        request: the request.
        variables: the stage's variables; without `cors` the response is unchanged.
        response: the response.
        more: further headers that a page may read.
    """
    headers = cors_headers({"stageVariables": variables, "headers": {"origin": _origin_of(request)}})
    if EXPOSE_HEADER in headers:
        headers[EXPOSE_HEADER] += more
    replaced = {name.lower() for name in headers}
    kept = (field for field in response.headers if field[0].lower() not in replaced)
    return replace(response, headers=(*kept, *headers.items()))


def answer_preflight(request: Request, variables: Mapping[str, str], max_age_s: int) -> Response:
    """Answer `OPTIONS` of a signed address; like S3, it allows every header that the page names."""
    if not allows_origin(variables, _origin_of(request)):
        return Response(403, (("Content-Type", "application/json"),), b'{"message":"This origin is not allowed."}')
    asked = next((value for name, value in request.headers if name.lower() == _ASKED), "")
    allowed = (("Access-Control-Allow-Headers", asked),) if asked else ()
    methods = (("Access-Control-Allow-Methods", TRANSFER_METHODS), ("Access-Control-Max-Age", str(max_age_s)))
    return with_cors(request, variables, Response(204, (*methods, *allowed)))


def _origin_of(request: Request) -> str:
    return fields_of(request).known[ORIGIN] or ""
