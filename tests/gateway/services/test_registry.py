"""The table of services: each is behind the guard, and no stage can have one of their names."""

from __future__ import annotations

import re

import pytest

from turnout.console.mounted import MountedConsole
from turnout.gateway.docs.handler import DocsHandler, DocsSource
from turnout.gateway.services.registry import SERVICES, ServiceParts, make_services
from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.shared.samples import SharedSamples
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Handler, Request, Response
from turnout.manifest.schema import manifest_schema
from turnout.protocol.naming import CONSOLE_SEGMENT, RESERVED_STAGES, SERVICE_SEGMENTS


def test_every_service_is_in_the_table() -> None:
    assert set(SERVICES) == SERVICE_SEGMENTS


@pytest.mark.parametrize("segment", sorted(SERVICES))
def test_no_stage_can_have_the_name_of_a_service(segment: str) -> None:
    pattern = manifest_schema()["properties"]["stages"]["propertyNames"]["pattern"]
    assert segment in RESERVED_STAGES or not re.fullmatch(pattern, segment)


def test_every_service_is_behind_the_guard_or_a_check_of_its_own() -> None:
    def guard(handle: Handler) -> Handler:
        return lambda request: Response(403)

    def open_page(request: Request) -> Response:
        return Response(200)

    console = MountedConsole(open_page, lambda request: None, "http://127.0.0.1")
    parts = ServiceParts(SharedState(1), SharedSamples(SharedLock(), 0), guard, console=console)
    docs = DocsHandler(DocsSource(lambda: pytest.fail("the guard comes first"), guard))
    services = make_services(parts, (), (), None, docs)  # type: ignore[arg-type]
    answers = {name: handle(Request("GET", f"/{name}", "", (), b"")) for name, handle in services.items()}
    statuses = {name: answer.status for name, answer in answers.items() if isinstance(answer, Response)}
    assert statuses == {**dict.fromkeys(SERVICES, 403), CONSOLE_SEGMENT: 200}


def test_a_server_without_a_console_has_none() -> None:
    parts = ServiceParts(SharedState(1), SharedSamples(SharedLock(), 0))
    assert CONSOLE_SEGMENT not in make_services(parts, (), (), None)  # type: ignore[arg-type]
