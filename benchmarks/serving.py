"""Starts `turnout serve` in a separate process, drives it with `wrk` and measures its memory. Needs Linux and `wrk`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running server; `seconds` from its start to its first answer."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float

    def pids(self) -> list[int]:
        """Return its process and all descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
        numbers, todo = [], [self.process.pid]
        while todo:
            numbers.append(todo.pop())
            todo += children.get(numbers[-1], [])
        return numbers

    def pss_mb(self) -> float:
        """Return the memory of all its processes, with shared pages counted once."""
        return sum(pss_mb(pid) for pid in self.pids())


def pss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(match[1]) / 1024 if match else 0.0
    return 0.0


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""urllib would otherwise use `HTTP_PROXY` also for this machine."""


def post(port: int, path: str, body: Any, timeout_s: float = PATIENCE_S) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with DIRECT.open(request, timeout=timeout_s) as answer:
        return json.loads(answer.read())


def pick_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(project: Path, path: str, body: Any, options: Sequence[str] = ("--no-access-log",)) -> Iterator[Server]:
    """Run `turnout serve` on a free port for the block, once it has answered `body` at `path` (None: anything)."""
    port = pick_port()
    turnout = Path(sys.executable).with_name("turnout")
    command = [turnout, "serve", "--manifest", project, "--port", str(port), *options]
    started = time.perf_counter()
    # The output is written to a file: nothing reads a pipe here, and a full pipe would stop the server.
    with (project / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        while True:
            try:
                post(port, path, body)
                break
            except urllib.error.HTTPError as error:
                if body is None:
                    break
                raise SystemExit(f"{path}: {error.code} {error.read()[:300]!r}") from None
            except OSError:
                if process.poll() is not None or time.perf_counter() - started > PATIENCE_S:
                    raise SystemExit((project / "server.log").read_text()[-2000:]) from None
                time.sleep(0.002)
        yield Server(process, port, time.perf_counter() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


@dataclass(frozen=True)
class Load:
    """The result of one run of `wrk`."""

    rate: float
    p50_ms: float
    p99_ms: float


_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[BODY]==]
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk_command(port: int, path: str, body: Any, *, clients: int, seconds: float, folder: Path) -> list[str]:
    """Return the command that posts a body as fast as it can; its script is written into the folder."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on the PATH (apt-get install wrk)")
    script = folder / "post.lua"
    script.write_text(_SCRIPT.replace("BODY", json.dumps(body)))
    url = f"http://127.0.0.1:{port}{path}"
    return ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), url]


def wrk(port: int, path: str, body: Any, *, clients: int, seconds: float, folder: Path) -> Load:
    command = wrk_command(port, path, body, clients=clients, seconds=seconds, folder=folder)
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(printed.strip().splitlines()[-1])
    if figures["errors"]:
        raise SystemExit(f"{path}: {figures['errors']} of {figures['requests']} requests failed")
    return Load(figures["requests"] / figures["seconds"], figures["p50"], figures["p99"])


def write_tiny(path: Path) -> dict[str, Any]:
    """Write a model of one small product, `x` FP32 [-1, 4] to `y` [-1, 3]; return a request."""
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 3], np.linspace(-1, 1, 12, dtype=np.float32))
    _save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [-1, 4], [-1, 3], [weights])
    return {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}


def write_slow(path: Path, products: int) -> dict[str, Any]:
    """Write a model of this number of products of 1,024 x 1,024 matrices; return a request."""
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1024, 1024], np.full(1 << 20, 1 / 1024, np.float32))
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1024, 1024])
    nodes = [helper.make_node("Expand", ["x", "shape"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{n}", "w"], [f"h{n + 1}"]) for n in range(products)]
    nodes += [helper.make_node("ReduceMean", [f"h{products}"], ["y"], keepdims=1)]
    _save(path, nodes, [1, 1], [1, 1], [weights, shape])
    return {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


def _save(path: Path, nodes: list[Any], taken: list[int], given: list[int], initializers: list[Any]) -> None:
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, taken)]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, given)]
    graph = helper.make_graph(nodes, "benchmark", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
