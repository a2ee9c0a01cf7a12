"""What a gateway answers beside its API, for programs on this machine: AWS's control plane, Lambda's Invoke API."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from turnout.gateway.api.gateway import RestApi
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.http.messages import Handler
from turnout.gateway.services import control_plane as plane
from turnout.gateway.services import invoke_api
from turnout.gateway.services.access import Guard
from turnout.gateway.services.local_only import local_only
from turnout.gateway.shared.state import SharedState


def make_services(
    apis: Sequence[RestApi], names: Collection[str], functions: Functions, state: SharedState, guard: Guard = local_only
) -> Mapping[str, Handler]:
    """First segment -> handler; each behind the guard."""
    handlers: dict[str, Handler] = {
        plane.SEGMENT: plane.ControlPlane(apis, state).handle,
        invoke_api.SEGMENT: invoke_api.InvokeApi(functions, frozenset(names)).handle,
    }
    return {segment: guard(handle) for segment, handle in handlers.items()}
