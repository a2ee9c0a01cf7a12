"""The calls that the API answers, and what is expected of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from turnout.openapi.public_document import PROTOCOL_PATHS
from turnout.plan.values import Api, Route

from .sample import MODEL


@dataclass(frozen=True, slots=True)
class CheckCall:
    """One request; its path does not include the stage.

    Args:
        method: `POST`.
        path: `/models/iris/v1/inference`.
        version: the version that must answer; empty if the stage or the graph chooses.
    """

    method: str
    path: str
    version: str = ""

    @property
    def has_body(self) -> bool:
        """Whether the call sends an inference request."""
        return self.method == "POST"


def list_calls(api: Api) -> Iterator[CheckCall]:
    """Return a call for every route of an API.

    The two routes of the Open Inference Protocol yield one call for each path.
    """
    for route in api.routes:
        if route.method == "ANY":
            continue
        yield CheckCall(route.method, _fill(route), route.version)
    if any(route.method == "ANY" for route in api.routes):
        for method, path, *_ in PROTOCOL_PATHS:
            version = "v1" if "{version}" in path and method == "post" else ""
            yield CheckCall(method.upper(), path.format(model=MODEL, version="v1"), version)


def _fill(route: Route) -> str:
    return route.path.format(model=MODEL, version="v1", check="live")
