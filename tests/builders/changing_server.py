"""A server with two workers; its paths `/serve/<version>` and `/counters` change and read their shared state.

`python -m tests.builders.changing_server PROJECT` prints the server's port to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from tests.builders.stages import update_stages
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import Edition, build_gateway, make_edition
from turnout.gateway.editions.in_process import edition_functions
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.observers.counting import count_requests
from turnout.gateway.shared.state import SharedState
from turnout.gateway.sockets import bind_sockets
from turnout.gateway.workers.supervise import supervise
from turnout.gateway.workers.worker import First, ServerParts
from turnout.http_server.messages import BodySink, Request, Response
from turnout.http_server.server import Limits
from turnout.project.project import load_project


class Changing:
    """A gateway with two additional paths."""

    def __init__(self, gateway: Gateway, state: SharedState) -> None:
        self._gateway = gateway
        self._state = state
        self.stages = gateway.stages

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        if request.path.startswith("/serve/"):
            (dev,) = (stage for stage in self._state.read()[1].stages if stage.name == "dev")
            variables = {**dev.variables, "echo": request.path.removeprefix("/serve/")}
            update_stages(self._state, {"dev": replace(dev, variables=variables)})
            return Response(200)
        if request.path == "/counters":
            rows = self._state.counters.read()
            named = {f"{key.stage} {key.function} {key.is_canary}": counts.requests for key, counts in rows.items()}
            return Response(200, (), orjson.dumps(named))
        return self._gateway.handle(request)

    def admit(self, request: Request) -> Response | None:
        return None if request.path.startswith("/serve/") else self._gateway.admit(request)

    def receive(self, request: Request) -> BodySink | None:
        return self._gateway.receive(request)


def main(project: Path) -> None:
    state = SharedState(2)
    edition = make_edition(load_project(project / "models.yaml"))
    sockets = bind_sockets("127.0.0.1", 0)

    def gateway_of(edition: Edition, functions: Functions) -> Any:
        gateway = build_gateway(
            edition.project,
            edition.plan,
            functions,
            apis=edition.apis,
            observers=[count_requests(state.counters)],
            bucket_of=state.buckets.bucket_of,
        )
        return Changing(gateway, state)

    serving = ServerParts(
        edition_functions,
        gateway_of,
        preload=False,
        opens_together=False,
        progress=lambda _: None,
        limits=Limits(),
        refusals={},
        log=None,
        flush=lambda: None,
    )

    def notify(text: object = "") -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    port = sockets[0].getsockname()[1]
    supervise(
        sockets, state, serving, First(1, edition), is_watching=False, notify=notify, on_ready=lambda: notify(port)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
