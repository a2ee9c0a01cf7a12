"""The list of observers: each sees a request, whatever another one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.documents import FakeFunctions, gateway, operation, request, respond, stage
from tests.builders.graphs import write_identity
from turnout.gateway.api.exchange import Exchange
from turnout.gateway.editions.edition import make_local_plan
from turnout.gateway.functions.deferred import Deferred
from turnout.gateway.observers.registry import Outlets, make_observers
from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.shared.samples import SharedSamples
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Response
from turnout.project.project import Project, load_project

PATHS = {"/x": {"post": operation("f")}}
JUDGED = "defaults: {canary: {agreement: {percent: 5, floor: 0.9}}}\n"


def load(folder: Path, more: str = "") -> Project:
    write_identity(folder / "echo.onnx")
    text = "models: {echo: {versions: {v1: {artifact: echo.onnx}}}}\nstages: {dev: {serve: {echo: v1}}}\n"
    (folder / "models.yaml").write_text(more + text)
    return load_project(folder)


@pytest.mark.parametrize(
    ("more", "captures", "logs", "count"),
    [
        ("", False, False, 1),
        ("", False, True, 2),
        ("", True, True, 3),
        (JUDGED, True, True, 4),
    ],
)
def test_configured_observers_are_used(tmp_path: Path, more: str, captures: bool, logs: bool, count: int) -> None:
    project = load(tmp_path, more)
    outlets = Outlets(
        SharedState(1).counters,
        SharedSamples(SharedLock(), 0),
        Deferred("test"),
        (lambda line: None) if captures else None,
        (lambda exchange, response, duration_s: None) if logs else None,
    )
    assert len(make_observers(outlets, project, make_local_plan(project))) == count


def test_a_failing_observer_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, int]] = []

    def broken(exchange: Exchange, response: Response, duration_s: float) -> None:
        raise ValueError("full")

    def see(exchange: Exchange, response: Response, duration_s: float) -> None:
        seen.append((exchange.path, response.status))

    under_test = gateway(PATHS, FakeFunctions(), stage(), observers=[see, broken, see])
    assert respond(under_test, request("/dev/x")).status == 200
    assert seen == [("/x", 200)] * 2
    assert "could not be observed" in caplog.text
