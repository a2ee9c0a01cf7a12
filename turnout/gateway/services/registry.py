"""What a gateway answers beside its API, for programs on this machine: AWS's control plane, Lambda's Invoke API.

Comes in: an edition, its functions, what the workers share. Goes out: handlers by the first segment of their paths.
Called by `turnout.gateway.serve` for every gateway that it makes.
"""

from __future__ import annotations

from collections.abc import Mapping

from turnout.gateway.editions.edition import Edition
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.http.messages import Handler
from turnout.gateway.services import control_plane as plane
from turnout.gateway.services import invoke_api
from turnout.gateway.services.local_only import local_only
from turnout.gateway.shared.state import SharedState


def make_services(edition: Edition, functions: Functions, state: SharedState) -> Mapping[str, Handler]:
    """First segment -> handler; each refuses everybody who is not a program on this machine."""
    handlers: dict[str, Handler] = {
        plane.SEGMENT: plane.ControlPlane(edition.apis, state).handle,
        invoke_api.SEGMENT: invoke_api.InvokeApi(functions, {row.name for row in edition.plan.functions}).handle,
    }
    return {segment: local_only(handle) for segment, handle in handlers.items()}
