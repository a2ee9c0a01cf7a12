"""Requests to 1, 100, 1,000 and 3,000 models, with every session loaded or with less memory than they need.

Generates a project of that many distinct models, serves it, and calls it with Zipf-distributed requests (the model of
rank r is chosen with a probability proportional to 1/r) from a few clients, each with one connection. A request that
finds its version loaded is a hit; the first one for a version, also after the version was unloaded, is a miss. The
server's counters show how many there were. "hot p99" is that of the 20 most called models, whose calls are hits. "cold
p50" is that of one client's calls to the least called models, one after another. Without --max-memory every model is
called twice before the measurement.

With --max-memory the goals are: no failed request, a p99 of the hits within 1.2 times that of models that fit into
memory, and a cold call under 100 ms. Without it: requests/s within 10% of one model's; exits with 1 if that is missed.

    python benchmarks/many_models.py [--models 1,100,1000,3000] [--mb 0.01] [--max-memory SIZE] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from serving import Server, post, serving

COLUMNS = 64
BAR_RATE = 0.10
HOT = 20
"""Models that are called so often that they are never unloaded: their calls are hits."""

COLD_CALLS = 100

COUNTERS = ("turnout_session_loads_total", "turnout_session_evictions_total")
HEADERS = (
    "models",
    "requests/s",
    "of one",
    "p50 ms",
    "p99 ms",
    "hot p99",
    "cold p50",
    "misses",
    "evictions",
    "sessions",
    "MB",
    "start s",
    "failures",
)


@dataclass
class Calls:
    """The clients' measurements: seconds of each call, and of the calls to the `HOT` most called models."""

    seconds: list[float] = field(default_factory=list)
    hot: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def write_model(path: Path, megabytes: float, seed: int) -> None:
    """Write a layer of random weights with about this number of bytes, different for each seed."""
    width = max(1, int(megabytes * 1e6 / (4 * COLUMNS)))
    weights = np.random.default_rng(seed).standard_normal((COLUMNS, width), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("ReduceMean", ["h"], ["y"], axes=[1], keepdims=1),
        ],
        f"model{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", COLUMNS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def make_project(folder: Path, models: int, megabytes: float, versions: int = 1) -> Path:
    """Make a project with this number of models, each with its own file; files of an earlier run are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(models):
        listed = []
        for version in range(1, versions + 1):
            artifact = f"models/m{number}/v{version}/model.onnx"
            if not (folder / artifact).exists():
                write_model(folder / artifact, megabytes, number * versions + version)
            listed.append(f"v{version}: {{artifact: {artifact}}}")
        entries.append(f"  m{number}: {{versions: {{{', '.join(listed)}}}}}")
    text = "\n".join(["models:", *entries, "stages:", '  dev: {serve: {"*": newest}}', ""])
    (folder / "models.yaml").write_text(text)
    return folder


def make_body() -> dict[str, Any]:
    """Return a request that every model accepts."""
    return {"inputs": [{"name": "x", "shape": [1, COLUMNS], "datatype": "FP32", "data": [0.5] * COLUMNS}]}


def draw_models(models: int, seed: int) -> Iterator[int]:
    """Return Zipf-distributed numbers of models."""
    totals = list(accumulate(1 / rank for rank in range(1, models + 1)))
    draw = random.Random(seed)
    while True:
        yield min(bisect(totals, draw.random() * totals[-1]), models - 1)


async def call_for(port: int, models: int, clients: int, seconds: float, seed: int) -> Calls:
    """Send requests to drawn models for this time from several connections at once."""
    return await send(port, [draw_models(models, seed * 1000 + number) for number in range(clients)], seconds)


async def call_all(port: int, models: int, clients: int) -> Calls:
    """Call each model twice: the first call loads its session, the second shows the server what a run costs."""
    numbers = [*range(models)] * 2
    return await send(port, [iter(numbers[client::clients]) for client in range(clients)], math.inf)


async def send(port: int, draws: Sequence[Iterator[int]], seconds: float) -> Calls:
    """Send requests to these models from one connection each, for this time at most."""
    calls = Calls()
    body = json.dumps(make_body()).encode()
    deadline = time.monotonic() + seconds

    async def client(drawn: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for model in drawn:
            if time.monotonic() > deadline:
                break
            began = time.perf_counter()
            writer.write(
                b"POST /models/m%d/inference HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (model, len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            calls.seconds.append(time.perf_counter() - began)
            if model < HOT:
                calls.hot.append(calls.seconds[-1])
            if not head.startswith(b"HTTP/1.1 200"):
                calls.failures.append(f"m{model}: {head[:30].decode()!r} {answer[:200].decode()}")
        writer.close()

    await asyncio.gather(*map(client, draws))
    return calls


def read_metrics(port: int, *names: str) -> list[float]:
    """Return the sums of some metrics over all workers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    return [sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{n} ", f"{n}{{"))) for n in names]


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000


def time_cold(port: int, models: int) -> float:
    """Return the median time, in ms, of calls to the least called models."""
    times = []
    for model in range(models - 1, max(-1, models - 1 - COLD_CALLS), -1):
        began = time.perf_counter()
        post(port, f"/models/m{model}/inference", make_body())
        times.append(time.perf_counter() - began)
    return percentile(times, 0.5)


@dataclass
class Measured:
    """One server and its measurements."""

    models: int
    server: Server
    counted: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    p50s: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    hot: list[float] = field(default_factory=list)
    failures: int = 0
    megabytes: float = 0.0

    def call(self, arguments: argparse.Namespace, turn: int) -> None:
        """Run one round of calls."""
        calls = asyncio.run(call_for(self.server.port, self.models, arguments.clients, arguments.seconds, turn))
        self.rates.append(len(calls.seconds) / arguments.seconds)
        self.p50s.append(percentile(calls.seconds, 0.5))
        self.p99s.append(percentile(calls.seconds, 0.99))
        self.hot.append(percentile(calls.hot, 0.99))
        self.failures += len(calls.failures)
        self.megabytes = max(self.megabytes, self.server.pss_mb())
        for failure in calls.failures[:3]:
            print(failure, file=sys.stderr)

    def report(self, arguments: argparse.Namespace, share: float) -> None:
        """Print one row of the table."""
        counted = read_metrics(self.server.port, *COUNTERS)
        sessions = read_metrics(self.server.port, "turnout_open_sessions")[0]
        cold = time_cold(self.server.port, self.models)
        loads, evictions = (now - then for now, then in zip(counted, self.counted, strict=True))
        misses = loads / (sum(self.rates) * arguments.seconds)
        p50, p99, hot = (statistics.median(values) for values in (self.p50s, self.p99s, self.hot))
        print(
            f"| {self.models:,} | {statistics.median(self.rates):,.0f} | {share:.0%} | {p50:.2f} | {p99:.2f} "
            f"| {hot:.2f} | {cold:.1f} | {misses:.2%} | {evictions:,.0f} | {sessions:,.0f} | {self.megabytes:,.0f} "
            f"| {self.server.seconds:.1f} | {self.failures} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="1,100,1000,3000")
    parser.add_argument("--mb", type=float, default=0.01, help="size of a model's file")
    parser.add_argument("--max-memory", default="", help="as turnout serve takes it")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5, help="of one measurement")
    parser.add_argument("--warm", type=float, default=10, help="seconds of calls before the first measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--folder", type=Path, help="where projects are kept for another run")
    arguments = parser.parse_args()
    options = ["--no-access-log", "--workers", str(arguments.workers)]
    if arguments.max_memory:
        options += ["--max-memory", arguments.max_memory]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = arguments.folder or Path(name)
        rows = []
        for models in map(int, arguments.models.split(",")):
            folder = make_project(root / f"{models}-{arguments.mb:g}", models, arguments.mb)
            server = stack.enter_context(serving(folder, "/models/m0/inference", make_body(), options))
            if not arguments.max_memory:
                asyncio.run(call_all(server.port, models, arguments.clients))
            asyncio.run(call_for(server.port, models, arguments.clients, arguments.warm, 0))
            rows.append(Measured(models, server, read_metrics(server.port, *COUNTERS)))
        for turn in range(arguments.rounds):
            for index in range(len(rows)):
                rows[(turn + index) % len(rows)].call(arguments, turn + 1)
        # Compare each round with its own mean: a temporary disturbance of the machine affects all of them.
        means = [statistics.mean(result.rates[turn] for result in rows) for turn in range(arguments.rounds)]
        shares = [
            statistics.median(rate / mean for rate, mean in zip(result.rates, means, strict=True)) / len(rows)
            for result in rows
        ]
        shares = [share / shares[0] for share in shares]
        print("| " + " | ".join(HEADERS) + " |")
        print("|--:" * len(HEADERS) + "|")
        for result, share in zip(rows, shares, strict=True):
            result.report(arguments, share)
    if any(result.failures for result in rows) or (not arguments.max_memory and min(shares) < 1 - BAR_RATE):
        sys.exit(1)


if __name__ == "__main__":
    main()
