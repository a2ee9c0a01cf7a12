"""A project whose stages accept asynchronous requests; its model does what its input demands."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.running_server import Answer, RunningServer
from tests.builders.waiting import wait_until

SIGNATURE = "{inputs: {x: {datatype: FP32, shape: [-1]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}"

MANIFEST = f"""
platform: turnout
models:
  echo:
    versions:
      v1: {{runtime: python, artifact: models/v1/predict.py, signature: {SIGNATURE}, async: true, timeout_s: 120}}
      v2: {{runtime: python, artifact: models/v2/predict.py, signature: {SIGNATURE}, timeout_s: 1}}
stages:
  dev:
    serve: {{echo: v1}}
    async: {{max_attempts: 2, max_body_mb: 300, callback_hosts: ["127.0.0.1:PORT"], allow_private_callbacks: true}}
  keyed:
    serve: {{echo: v1}}
    auth: api_key
    async: {{}}
  weighted:
    weights: {{echo: {{v1: 50, v2: 50}}}}
    async: {{max_stored_mb: 1}}
  plain: {{serve: {{echo: v1}}}}
"""

PREDICT = """
import os
import time
from pathlib import Path

import numpy as np

from turnout.protocol.errors import Refused


def load(folder):
    pass


def predict(inputs):
    x = inputs["x"]
    what, how_much = (float(x[0]), float(x[1])) if x.size == 2 else (0.0, 0.0)
    if what == -1:
        raise Refused("-1 is refused", value=-1)
    if what == -2:
        raise RuntimeError("secret")
    if what == -3:
        time.sleep(how_much)
    if what == -4:
        os._exit(9)
    if what == -5:
        return {"y": np.zeros(int(how_much), np.float32)}
    return {"y": x + 1}
"""

REFUSED, RAISES, SLEEPS, ENDS, GROWS = -1.0, -2.0, -3.0, -4.0, -5.0
"""First of the two input values: what the model does with the second."""

PATH = "/dev/models/echo/inference"


def write_async_project(project: Path, callback_port: int = 1) -> Path:
    for version in ("v1", "v2"):
        (project / "models" / version).mkdir(parents=True)
        (project / "models" / version / "predict.py").write_text(PREDICT)
    (project / "models.yaml").write_text(MANIFEST.replace("PORT", str(callback_port)))
    return project


def body_of(*values: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP32", "data": list(values)}]}


def submit(server: RunningServer, *values: float, path: str = PATH, **headers: str) -> str:
    """Return the address of an accepted request."""
    answer = server.post(path, body_of(*values), prefer="respond-async", **headers)
    assert answer.status == 202, answer.body
    return answer.headers["location"]


def await_end(server: RunningServer, address: str, **headers: str) -> dict[str, Any]:
    """Return the state of a request once it has ended."""
    seen: list[dict[str, Any]] = []
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def has_ended() -> bool:
        try:
            answer = server.request("GET", address, headers=named)
        except (ConnectionError, http.client.HTTPException):
            return False  # its worker was killed
        assert answer.status == 200, answer.body
        seen.append(answer.json())
        return seen[-1]["state"] not in {"queued", "running"}

    wait_until(has_ended, lambda: f"{address} to end: {seen[-1]}")
    return seen[-1]


def fetch(server: RunningServer, address: str, **headers: str) -> Answer:
    """Return the answer at a path, or at an address of this server."""
    path = "/" + address.split("/", 3)[3] if address.startswith("http") else address
    return server.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@contextlib.contextmanager
def webhook_receiver() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield a port and the bodies that are sent to it."""
    received: list[dict[str, Any]] = []

    class Receiver(QuietHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

    with loopback_server(Receiver) as url:
        yield urlsplit(url).port or 0, received
