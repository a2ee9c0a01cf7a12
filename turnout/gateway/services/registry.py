"""What a gateway answers beside its API: AWS's control plane, Lambda's Invoke API, and `/turnout/` of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence

from turnout.gateway.api.gateway import RestApi
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.http.messages import Handler, Request, Response
from turnout.gateway.services import control_plane as plane
from turnout.gateway.services import invoke_api
from turnout.gateway.services.access import Guard
from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.services.local_only import local_only
from turnout.gateway.shared.state import SharedState

SEGMENT = "turnout"


def make_services(
    apis: Sequence[RestApi], names: Collection[str], functions: Functions, state: SharedState, guard: Guard = local_only
) -> Mapping[str, Handler]:
    """First segment -> handler; each behind the guard."""
    handlers: dict[str, Handler] = {
        plane.SEGMENT: plane.ControlPlane(apis, state).handle,
        invoke_api.SEGMENT: invoke_api.InvokeApi(functions, frozenset(names)).handle,
    }
    return {segment: guard(handle) for segment, handle in handlers.items()}


def own_services(handlers: Mapping[str, Handler], guard: Guard = local_only) -> Handler:
    """The handler of every path under the segment, behind the guard."""

    def answer_own(request: Request) -> Response | Awaitable[Response]:
        handler = handlers.get(request.path)
        if handler is None:
            message = f"There is nothing at this path; there are {' and '.join(handlers)}"
            return AwsError(404, "NotFoundException", message).response()
        return handler(request)

    return guard(answer_own)
