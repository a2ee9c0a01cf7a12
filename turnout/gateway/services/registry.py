"""The table of everything that a gateway answers besides its API, by the first segment of the paths.

`turnout.protocol.naming` contains the segments; therefore no stage can have these names.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from turnout.gateway.api.gateway import RestApi
from turnout.gateway.docs.handler import DocsHandler
from turnout.gateway.functions.invocation import Invocable
from turnout.gateway.services import choice_tables, metrics, samples
from turnout.gateway.services.access import Guard
from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.services.console import Console
from turnout.gateway.services.control_plane import ControlPlane
from turnout.gateway.services.invoke_api import InvokeApi
from turnout.gateway.services.local_only import local_only
from turnout.gateway.services.prometheus import Sources, make_prometheus
from turnout.gateway.shared.samples import SharedSamples
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Handler, Request, Response
from turnout.protocol import naming


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """The parts that services use, independent of the edition.

    Args:
        state: state of all workers.
        samples: samples of all workers.
        guard: the check before every service.
        run: identifies this run of the server.
        dropped: number of dropped lines of output and of the capture since the start, by stream.
        console: the page for browsers, or None.
        choices: the folder with tables of choices; None for none.
    """

    state: SharedState
    samples: SharedSamples
    guard: Guard = local_only
    run: str = ""
    dropped: Callable[[], Mapping[str, int]] = dict
    console: Console | None = None
    choices: Path | None = None


@dataclass(frozen=True, slots=True)
class ServedEdition:
    """The edition that services use."""

    apis: Sequence[RestApi]
    names: Collection[str]
    functions: Invocable
    docs: DocsHandler | None = None
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisteredService:
    """One entry of the table.

    Args:
        make: makes the handler; None if the server does not have the service.
        has_own_check: whether it decides itself who may use it, instead of the guard.
    """

    make: Callable[[ServiceParts, ServedEdition], Handler | None]
    has_own_check: bool = False


def _own_services(parts: ServiceParts, served: ServedEdition) -> Handler:
    answer_others = answer_paths(
        {
            metrics.PATH: metrics.make_metrics(
                parts.state.counters, parts.run, time.time, parts.dropped, parts.state.callers
            ),
            samples.PATH: samples.make_samples(parts.samples),
            samples.REPLAY_PATH: samples.make_replays(parts.state.replay_token),
        }
    )
    answer_table = choice_tables.make_choice_tables(parts.choices, served.tables)

    def answer_own(request: Request) -> Response | Awaitable[Response]:
        is_table = request.path.startswith(f"{choice_tables.PATH}/")
        return answer_table(request) if is_table else answer_others(request)

    return answer_own


SERVICES: Mapping[str, RegisteredService] = {
    naming.CONTROL_PLANE_SEGMENT: RegisteredService(
        lambda parts, served: ControlPlane(served.apis, parts.state).handle
    ),
    naming.INVOKE_SEGMENT: RegisteredService(
        lambda _, served: InvokeApi(served.functions, frozenset(served.names)).handle
    ),
    naming.OWN_SEGMENT: RegisteredService(_own_services),
    naming.METRICS_SEGMENT: RegisteredService(lambda parts, _: make_prometheus(Sources(parts.state, parts.dropped))),
    naming.CONSOLE_SEGMENT: RegisteredService(
        lambda parts, _: None if parts.console is None else parts.console.handle, has_own_check=True
    ),
    naming.DOCS_SEGMENT: RegisteredService(
        lambda _, served: None if served.docs is None else served.docs.handle, has_own_check=True
    ),
}
"""First segment of a service's paths -> the service."""


def make_services(
    parts: ServiceParts,
    apis: Sequence[RestApi],
    names: Collection[str],
    functions: Invocable,
    docs: DocsHandler | None = None,
    tables: Mapping[str, str] = MappingProxyType({}),
) -> Mapping[str, Handler]:
    """Return first segment -> handler of every service, behind the guard or its own check.

    Args:
        parts: the parts that they use.
        apis: APIs of the served edition.
        names: its functions' names.
        functions: runs the functions.
        docs: the edition's pages, or None.
        tables: the edition's tables of choices, by name.
    """
    served = ServedEdition(apis, names, functions, docs, tables)
    made = {segment: (service, service.make(parts, served)) for segment, service in SERVICES.items()}
    return {
        segment: handle if service.has_own_check else parts.guard(handle)
        for segment, (service, handle) in made.items()
        if handle is not None
    }


def answer_paths(handlers: Mapping[str, Handler]) -> Handler:
    """Return one handler for several paths; any other path is not found."""

    def answer_own(request: Request) -> Response | Awaitable[Response]:
        handler = handlers.get(request.path)
        if handler is None:
            message = f"Unknown path. Known paths: {', '.join(handlers)}"
            return AwsError(404, "NotFoundException", message).response()
        return handler(request)

    return answer_own
