from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.builders.http_server import serving
from turnout.canary.judging.observed import Arm, Observation
from turnout.canary.observation.local import LocalSource
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.gateway.services.metrics import PATH, make_metrics
from turnout.gateway.services.registry import answer_paths
from turnout.gateway.shared.counters import BOUNDS_S
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Handler, Request, Response
from turnout.plan.served_by import Serving, Watched

WATCHED = (Watched("iris", Serving("iris_v1", frozenset()), Serving("iris_v2", frozenset())),)
EMPTY = (0,) * (len(BOUNDS_S) + 1)


@dataclass
class Server:
    """A server's counters behind a real socket; `restart` resets them."""

    state: SharedState
    run: str
    source: LocalSource

    def handle(self, request: Request) -> object:
        return answer_paths({PATH: make_metrics(self.state.counters, self.run, lambda: 500.0)})(request)

    def restart(self) -> None:
        self.state, self.run = SharedState(1), self.run + "'"

    def count(
        self, function: str, times: int = 1, *, canary: bool = False, status: int = 200, stage: str = "prod"
    ) -> None:
        for _ in range(times):
            self.state.counters.record((stage, function, canary), status, 0.004, failed=status >= 500)

    def start(self) -> ObservationStart:
        return self.source.start("prod", WATCHED)

    def observe(self, since: ObservationStart) -> Observation:
        return self.source.observe("prod", WATCHED, since)


@pytest.fixture
def server() -> Iterator[Server]:
    stub = Server(SharedState(1), "run", LocalSource(""))
    with serving(stub.handle) as running:  # type: ignore[arg-type]
        stub.source = LocalSource(f"http://127.0.0.1:{running.address[1]}/")
        yield stub


def arm(requests: int, errors: int = 0) -> Arm:
    at = next(index for index, bound_s in enumerate(BOUNDS_S) if bound_s >= 0.004)
    return Arm(requests, errors, (*EMPTY[:at], requests, *EMPTY[at + 1 :]))


def test_requests_since_the_start_are_observed(server: Server) -> None:
    server.count("iris_v1", 5)
    server.count("iris_v2", canary=True, status=500)
    start = server.start()
    assert start.time_s == 500.0
    server.count("iris_v1", 7)
    server.count("iris_v1", 2, status=502)
    server.count("iris_v2", 3, canary=True)
    server.count("iris_v2", canary=True, status=404)
    assert server.observe(start) == Observation(arm(9, 2), arm(4), BOUNDS_S)


def test_other_stages_functions_and_shares_are_not_observed(server: Server) -> None:
    start = server.start()
    server.count("iris_v1", stage="dev")
    server.count("iris_v1", canary=True)
    server.count("iris_v2")
    server.count("spam_v1")
    assert server.observe(start) == Observation(arm(0), arm(0), BOUNDS_S)


def test_counts_of_models_are_summed(server: Server) -> None:
    spam = Watched("spam", Serving("spam_v1", frozenset()), Serving("spam_v2", frozenset()))
    for function, canary in (("iris_v1", False), ("spam_v1", False), ("iris_v2", True)):
        server.count(function, canary=canary)
    response = server.source.observe("prod", (*WATCHED, spam), ObservationStart(0))
    assert (response.baseline, response.canary) == (arm(2), arm(1))


def test_a_router_is_distinguished_by_share(server: Server) -> None:
    routed = Watched("iris", Serving("iris_router", frozenset({"a"})), Serving("iris_router", frozenset({"b"})))
    server.count("iris_router", 3)
    server.count("iris_router", 2, canary=True)
    response = server.source.observe("prod", (routed,), ObservationStart(0))
    assert (response.baseline, response.canary) == (arm(3), arm(2))


def test_a_restarted_server_counts_from_zero(server: Server) -> None:
    server.count("iris_v1", 5)
    server.count("iris_v2", 5, canary=True)
    start = server.start()
    server.restart()
    assert server.observe(start) == Observation(arm(0), arm(0), BOUNDS_S)
    # More requests than before: only the run's name shows that the server was restarted.
    server.count("iris_v1", 8)
    server.count("iris_v2", 9, canary=True)
    assert server.observe(start) == Observation(arm(8), arm(9), BOUNDS_S)


@contextmanager
def answering(response: Response) -> Iterator[LocalSource]:
    handle: Handler = lambda request: response  # noqa: E731
    with serving(handle) as running:
        yield LocalSource(f"http://127.0.0.1:{running.address[1]}")


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (Response(404, (), b"{}"), 404),
        (Response(200, (), b"<html>"), 200),
        (Response(200, (), b"[1]"), 200),
        (Response(200, (), b'{"message": "hello"}'), 200),
    ],
)
def test_a_server_that_is_not_a_gateway_cannot_be_observed(response: Response, status: int) -> None:
    with answering(response) as source, pytest.raises(ObservationError) as raised:
        source.start("prod", WATCHED)
    assert raised.value.message.endswith(f"/turnout/metrics?stage=prod returned {status} without counters")
    assert raised.value.hint == "Check that it is the address of `turnout serve`."


def test_an_unreachable_server_cannot_be_observed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ObservationError, match="no server listens at") as raised:
            LocalSource(f"http://127.0.0.1:{taken.getsockname()[1]}").observe("prod", WATCHED, ObservationStart(0))
    assert raised.value.hint == "Check that `turnout serve` runs there."


def test_an_invalid_address_cannot_be_observed() -> None:
    with pytest.raises(ObservationError, match="is not an address"):
        LocalSource("127.0.0.1:8080").start("prod", WATCHED)
