"""A project whose versions misbehave in every way that Python code can, and calls of its isolated functions.

The layer and the runtime are built once for all tests: their folders are links to one place.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from tests.builders.graphs import write_identity
from tests.builders.model_functions import open_request, proxy_event
from tests.builders.waiting import PATIENCE_S, wait_until
from turnout.gateway.editions.isolated import serve_invoke
from turnout.gateway.functions.invocation import Functions, Invocation
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.keeper import children_of
from turnout.gateway.functions.isolated.limits import EnvironmentLimits
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.gateway.shared.session_budget import SessionBudget

MANIFEST = """
platform: turnout
models:
  plain:
    versions:
      v1: {artifact: models/echo.onnx}
  wild:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/wild.py, memory_mb: 256}
  alone:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/wild.py, reserved_concurrency: 1}
  none:
    versions:
      v1: {artifact: models/echo.onnx, reserved_concurrency: 0}
  raises:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/raises.py}
  exits:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/exits.py}
  stuck:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/stuck.py, timeout_s: 1}
  slow:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/slow.py, timeout_s: 2}
  pair:
    routing: {fallback: v1}
    versions:
      v1: {artifact: models/echo.onnx}
      v2: {artifact: models/echo.onnx, transform: models/wild.py, environment: {PLACE: here}}
stages:
  dev: {serve: {"*": newest}, weights: {pair: {v2: 100}}}
"""

WILD = '''
"""Does what the first number asks for; the second is an argument, and becomes the process's number."""
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

KEPT = []


def runtime_api():
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    return host, int(port)


def post(path):
    connection = http.client.HTTPConnection(*runtime_api(), timeout=10)
    connection.request("POST", "/2018-06-01/runtime" + path, b'{"statusCode": 200, "body": "forged"}')
    return connection.getresponse().status


def tell(argument):
    import json, resource
    seen = {"environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "flags": list(sys.flags),
            "data": resource.getrlimit(resource.RLIMIT_DATA), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "group": os.getpgrp(), "session": os.getsid(0), "descriptors": len(os.listdir("/proc/self/fd"))}
    print("seen " + json.dumps(seen), flush=True)


def fill(megabytes):
    return np.ones(int(megabytes) << 20, np.uint8)


def hang(argument):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)


def flood(megabytes):
    for _ in range(int(megabytes) * 16):
        print("x" * 65535)
        sys.stderr.write("y\\n" * 64)
    os.write(1, b"last words \\xff \\x1b[31m\\n")


def rubbish(argument):
    with socket.create_connection(runtime_api()) as connection:
        connection.sendall(b"\\x16\\x03\\x01 rubbish\\r\\n\\r\\n")
        while connection.recv(4096):
            pass


def forge(argument):
    statuses = [post("/invocation/0123/response"), post("/invocation/next/response"), post("/init/error"),
                post("/no/such/path")]
    assert statuses == [400, 400, 403, 404], statuses


def ask_twice(argument):
    connection = http.client.HTTPConnection(*runtime_api(), timeout=10)
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    assert connection.getresponse().status == 403


def garble(argument):
    from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
    LambdaMarshaller.marshal_response = lambda self, response: ("{rubbish", "application/json")


def swell(megabytes):
    from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
    text = '{"body": "' + "x" * (int(megabytes) << 20) + '"}'
    LambdaMarshaller.marshal_response = lambda self, response: (text, "application/json")


def in_child(megabytes):
    code = f"import time; held = b'x' * ({int(megabytes)} << 20); time.sleep(600)"
    subprocess.run([sys.executable, "-I", "-S", "-c", code])



def close_connections(_):
    # Shut down, not closed: libcurl would close its old descriptor again, by then the number of its new connection.
    for number in range(3, 256):
        try:
            socket.socket(fileno=os.dup(number)).shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


ACTIONS = {
    1: lambda _: os._exit(3),
    2: hang,
    3: flood,
    4: lambda megabytes: (KEPT.append(fill(megabytes)), time.sleep(600)),
    5: lambda megabytes: fill(megabytes).sum(),
    6: lambda _: os.kill(os.getpid(), signal.SIGKILL),
    7: rubbish,
    8: forge,
    9: ask_twice,
    10: garble,
    11: swell,
    12: lambda seconds: threading.Timer(float(seconds), os._exit, [9]).start(),
    13: close_connections,
    14: lambda seconds: time.sleep(float(seconds)),
    15: lambda _: subprocess.Popen(["sleep", "600"]),
    16: tell,
    17: lambda gigabytes: bytearray(int(gigabytes) << 30),
    18: in_child,
    19: lambda _: sys.exit(4),
}


def preprocess(inputs):
    code, argument = inputs["x"][0][:2]
    ACTIONS.get(int(code), lambda _: None)(argument)
    answer = inputs["x"].copy()
    answer[0][1] = os.getpid()
    return {"x": answer}
'''

ANSWER, EXIT, HANG, FLOOD, FILL, FILL_AND_FREE, KILL, RUBBISH, FORGE, ASK_TWICE, GARBLE, SWELL = range(12)
EXIT_LATER, CLOSE_ALL, SLEEP, FORK, REPORT, TOO_MUCH_AT_ONCE, FILL_IN_CHILD, SYS_EXIT = range(12, 20)


def write_misbehaving(project: Path) -> Path:
    """Write the project into an empty folder."""
    models = project / "models"
    models.mkdir()
    write_identity(models / "echo.onnx")
    (models / "wild.py").write_text(WILD)
    step = "def preprocess(inputs):\n    return inputs\n"
    (models / "raises.py").write_text(f"{step}raise ValueError('no such weights')\n")
    (models / "exits.py").write_text(f"{step}import os\nprint('going', flush=True)\nos._exit(7)\n")
    (models / "stuck.py").write_text(f"{step}import time\ntime.sleep(600)\n")
    (models / "slow.py").write_text(f"{step}import time\ntime.sleep(3)\n")
    (project / "models.yaml").write_text(MANIFEST)
    return project


def share_packages(project: Path, factory: pytest.TempPathFactory) -> None:
    """Let the project build into folders that all tests of this run share, also across processes."""
    base = factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared-packages"
    folder = project / ".turnout"
    folder.mkdir(exist_ok=True)
    for name in ("packages", "runtime", "unpacked"):
        (shared / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(shared / name)
    (folder / "isolated.lock").symlink_to(shared / "isolated.lock")


def event_of(code: int, argument: float = 0, **fields: Any) -> dict[str, Any]:
    """A proxy event that requests something from `wild`, or the same numbers from `plain`."""
    headers = {"Content-Type": "application/json", "X-Amzn-Trace-Id": "Root=1-0-0"}
    return proxy_event(json.dumps(open_request([code, argument, 0, 0], [1, 4])), headers, **fields)


async def call(
    functions: Functions, code: int, argument: float = 0, model: str = "wild", timeout_s: float = PATIENCE_S
) -> Invocation:
    """Make one call and await its answer."""
    return await call_named(functions, f"turnout-local_{model}_v1", code, argument, timeout_s)


async def call_named(
    functions: Functions, name: str, code: int, argument: float = 0, timeout_s: float = PATIENCE_S
) -> Invocation:
    """Call the function with this name and await its answer."""
    result = functions.invoke(name, "live", event_of(code, argument), timeout_s)
    return result if isinstance(result, Invocation) else await result


def pid_of(invocation: Invocation) -> int:
    """Return the id of the process that answered; the call must have succeeded."""
    assert invocation.answer is not None, invocation
    assert invocation.answer["statusCode"] == 200, invocation.answer
    return int(orjson.loads(invocation.answer["body"])["outputs"][0]["data"][1])


Scenario = Callable[[IsolatedFunctions], Awaitable[None]]


def play(
    codes: Sequence[FunctionCode],
    scenario: Scenario,
    *,
    environments: int = 2,
    idle_s: float = 300.0,
    waiting: int = 10_000,
    budget: SessionBudget | None = None,
) -> None:
    """Run a scenario as the server would: on uvloop, with everything closed after the loop has ended."""
    limits = EnvironmentLimits(environments, idle_s, waiting)
    functions = IsolatedFunctions(codes, limits, serve_invoke=serve_invoke, budget=budget)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

            async def bounded() -> None:
                await asyncio.wait_for(scenario(functions), PATIENCE_S)

            runner.run(bounded())
    finally:
        functions.close()
    await_end_of(codes)


def processes_of(codes: Sequence[FunctionCode]) -> set[int]:
    """Return all processes, functions and what they started, that run one of these functions; no keepers and no dead
    processes.
    """
    processes = kept_processes_of(codes)
    return processes - keepers_of(processes)


def keepers_of(processes: set[int]) -> set[int]:
    """Return those of these processes whose child is a fork of them: keepers of a function."""
    return {pid for pid in processes if any(_commands(child) == _commands(pid) for child in children_of(pid))}


def _commands(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kept_processes_of(codes: Sequence[FunctionCode]) -> set[int]:
    """Return the same processes, including keepers."""
    tasks = {f"LAMBDA_TASK_ROOT={code.task}".encode() for code in codes}
    results = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if tasks & set((entry / "environ").read_bytes().split(b"\0")):
                    results.add(int(entry.name))
            except OSError:
                continue
    return results


def await_end_of(codes: Sequence[FunctionCode]) -> None:
    """Wait until none of their processes exists."""
    wait_until(lambda: not kept_processes_of(codes), lambda: f"the end of {kept_processes_of(codes)}")
