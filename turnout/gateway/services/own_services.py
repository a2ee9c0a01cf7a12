"""`/turnout/...`: what the gateway tells of itself to programs on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from turnout.gateway.http.messages import Handler, Request, Response
from turnout.gateway.services.access import Guard
from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.services.local_only import local_only

SEGMENT = "turnout"


def own_services(handlers: Mapping[str, Handler], guard: Guard = local_only) -> Handler:
    """The handler of every path under the segment, behind the guard."""

    def answer_own(request: Request) -> Response | Awaitable[Response]:
        handler = handlers.get(request.path)
        if handler is None:
            message = f"There is nothing at this path; there are {' and '.join(handlers)}"
            return AwsError(404, "NotFoundException", message).response()
        return handler(request)

    return guard(answer_own)
