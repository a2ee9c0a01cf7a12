"""Measures the processor time of a tiny request, without sockets: HTTP server, gateway, function, run.

Feeds the bytes of requests to the server's connections, eight at once, and takes what they write. Measures four servers
alternately: one that returns a constant, the gateway with a function that returns a constant, the gateway with the real
function, and `session.run` alone; the differences are the layers. All rules are on: API key, throttle, canary, stage
variables. Finally it measures the whole with a sleep of 0.1 ms before each request, which shows how long an idle
processor needs for the same work.

    python benchmarks/layers.py [--rounds 30]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop
from serving import write_tiny

from model_lambdas.onnx_model.session import open_session
from turnout.gateway.editions.edition import build_gateway, load_keys, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.functions.invocation import Invocation
from turnout.http_server.connection import Connection, Service
from turnout.http_server.messages import Handler, Response
from turnout.http_server.reader import Limits
from turnout.project.project import load_project

MANIFEST = """\
models:
  tiny: {versions: {v1: {artifact: tiny.onnx}, v2: {artifact: tiny.onnx}}}
stages:
  prod:
    serve: {tiny: v1}
    canary: {percent: 10, serve: {tiny: v2}}
    auth: api_key
    throttle: {rate: 1000000, burst: 1000000}
"""
CONNECTIONS = 8
SLEEP_S = 0.0001
REQUESTS = 100


class Sink(asyncio.Transport):
    """A client that reads everything immediately."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5)})
        self.answers = 0
        self.last = b""

    def write(self, data: Any) -> None:
        self.answers += 1
        self.last = data

    def is_closing(self) -> bool:
        return False


class ConstantFunctions:
    """Answers like the tiny model, without any work."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer

    def invoke(self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float) -> Invocation:
        return Invocation({**self._answer, "headers": {**self._answer["headers"]}})

    def close(self) -> None:
        pass


def make_clients(handle: Handler) -> list[tuple[Connection, Sink]]:
    service = Service(handle, Limits(), {}, None)
    service.date = "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    clients = [(Connection(service), Sink()) for _ in range(CONNECTIONS)]
    for connection, sink in clients:
        connection.connection_made(sink)
    return clients


async def time_clients(clients: list[tuple[Connection, Sink]], request: bytes) -> float:
    """Return microseconds of processor time per request."""
    started = time.thread_time()
    for _ in range(REQUESTS):
        wanted = [sink.answers + 1 for _, sink in clients]
        for connection, _ in clients:
            connection.data_received(request)
        # Nearly always they have already answered; a run in a thread takes some iterations of the loop.
        for _ in range(100_000):
            if all(sink.answers == count for (_, sink), count in zip(clients, wanted, strict=True)):
                break
            await asyncio.sleep(0)
    return (time.thread_time() - started) / REQUESTS / CONNECTIONS * 1e6


async def time_woken(clients: list[tuple[Connection, Sink]], request: bytes) -> float:
    """Measure requests that arrive one by one, each after a sleep, as from one client that waits for its answer."""
    connection, sink = clients[0]
    spent = 0.0
    for _ in range(REQUESTS):
        time.sleep(SLEEP_S)  # noqa: ASYNC251 - the processor must sleep, not just this coroutine
        wanted = sink.answers + 1
        started = time.thread_time()
        connection.data_received(request)
        spent += time.thread_time() - started
        for _ in range(100_000):  # a run in a thread, which is rare, is not counted
            if sink.answers == wanted:
                break
            await asyncio.sleep(0)
    return spent / REQUESTS * 1e6


async def measure(folder: Path, rounds: int) -> dict[str, float]:
    (folder / "models.yaml").write_text(MANIFEST)
    body = write_tiny(folder / "tiny.onnx")
    project = load_project(folder / "models.yaml")
    plan = make_local_plan(project)
    keys = load_keys(project, plan)
    functions = make_functions(project, plan)
    await functions.preload()
    gateway = build_gateway(project, plan, functions, keys=keys)
    content = orjson.dumps(body)
    head = (
        f"POST /models/tiny/v1/inference HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
        f"x-api-key: {keys['prod']}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    request = head.encode() + content
    whole = make_clients(gateway.handle)
    for _ in range(3):
        await time_clients(whole, request)
    answer = whole[0][1].last
    assert b" 200 OK\r\n" in answer, answer
    fields, _, answered = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in fields.decode().split("\r\n")[1:])
    said = {"statusCode": 200, "headers": {k: v for k, v in headers.items() if k.startswith("x-turnout")}}
    constant = ConstantFunctions({**said, "body": answered.decode(), "isBase64Encoded": False})
    fixed = Response(200, tuple(headers.items()), answered)
    session = open_session(folder / "tiny.onnx", 1024)
    feed = {"x": np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)}

    async def run() -> float:
        started = time.thread_time()
        for _ in range(REQUESTS * CONNECTIONS):
            session.run(["y"], feed)
        return (time.thread_time() - started) / REQUESTS / CONNECTIONS * 1e6

    layers: dict[str, Callable[[], Awaitable[float]]] = {}
    plain = make_clients(lambda _: fixed)
    ruled = make_clients(build_gateway(project, plan, constant, keys=keys).handle)
    layers["http"] = lambda: time_clients(plain, request)
    layers["gateway"] = lambda: time_clients(ruled, request)
    layers["function"] = lambda: time_clients(whole, request)
    layers["run"] = run
    layers["woken"] = lambda: time_woken(whole, request)
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(rounds):
        for name, layer in layers.items():
            times[name].append(await layer())
    functions.close()
    return {name: min(times_s) for name, times_s in times.items()} | {"median": statistics.median(times["function"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = uvloop.run(measure(Path(folder), arguments.rounds))
    rows = {
        "HTTP server": measured["http"],
        "gateway": measured["gateway"] - measured["http"],
        "function, without the run": measured["function"] - measured["gateway"] - measured["run"],
        "session.run": measured["run"],
        "all": measured["function"],
        "all, median": measured["median"],
        "all, each after a sleep": measured["woken"],
    }
    for name, value in rows.items():
        sys.stdout.write(f"{name:28}{value:>8.1f} us\n")


if __name__ == "__main__":
    main()
