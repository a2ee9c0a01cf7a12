"""The process in which versions are tried: it reads jobs as lines on standard input and writes reports as lines.

Each line names the next step, so the parent knows the last step if this process crashes. A model must not be able to
write to the terminal, use all of the memory, or outlive the parent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

from turnout.protocol.telemetry import disable_telemetry

RUN_S = 2.0
"""Time of one run: a run that is merely long does not crash the process, which is all that a trial tests."""

IDLE_S = 20.0
"""The process ends after this time without a job; the next job starts another one."""

LEAST_MEMORY_BYTES = 4 * 1024**3

Report = Any


def main() -> None:
    """Do one job after the other until there are no more."""
    disable_telemetry()
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    jobs: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    while True:
        try:
            job = jobs.get(timeout=IDLE_S)
        except Empty:
            return
        _limit_memory(json.loads(job)["size_bytes"])
        _do(json.loads(job), reports)


def _read(jobs: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        jobs.put(line)
    os._exit(0)  # the parent process has ended


def _limit_memory(size_bytes: int) -> None:
    """Limit the memory: a run that uses all of the machine's memory would end other processes than this one."""
    limit = max(LEAST_MEMORY_BYTES, 6 * size_bytes)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _do(job: Mapping[str, Any], reports: BinaryIO) -> None:
    def report(**fields: Report) -> None:
        reports.write(json.dumps(fields).encode() + b"\n")

    try:
        if job["locate"] is None:
            _try(job, report)
        else:
            _locate(job, report)
    except MemoryError:
        report(failed="not enough memory to run it")
    except Exception as error:
        report(failed=f"{error}")


def _try(job: Mapping[str, Any], report: Report) -> None:
    """Open the model, then send it every request except those to skip."""
    from turnout.protocol.tensors.datatypes import Signature
    from turnout.trials.requests import make_steps

    runtime = importlib.import_module(f"{job['package']}.function.runtime")
    open_model = runtime.find_opener(job["opener"])
    signature = Signature.from_json(job["signature"])
    spec = runtime.FunctionSpec(
        job["model"],
        job["version"],
        job["sha256"],
        signature,
        Path(job["artifact"]),
        external_files=tuple(map(Path, job["external_files"])),
        copies=Path(job["copies"]),
    )
    report(opening=True)
    model = open_model(spec)
    report(opened=True)
    for number, step in enumerate(make_steps(signature)):
        if number not in job["skip"]:
            report(step=number)
            _run(model, step.make(), runtime.Cancellation())
    report(done=True)


def _run(model: Any, inputs: Any, cancellation: Any) -> None:
    """Do one run; it does not matter if it is rejected, canceled or out of memory."""
    timer = threading.Timer(RUN_S, cancellation.cancel)
    timer.start()
    try:
        with contextlib.suppress(Exception):
            model.run(inputs, (), cancellation)
    finally:
        timer.cancel()


def _locate(job: Mapping[str, Any], report: Report) -> None:
    """Run the request through the first node, the first two and so on, and name each before it runs."""
    import onnx

    from turnout.protocol.tensors.datatypes import Signature
    from turnout.trials.requests import make_steps

    model = onnx.load(job["artifact"])
    inputs = make_steps(Signature.from_json(job["signature"]))[job["locate"]].make()
    for name, array in inputs.items():
        if array.dtype == object:
            inputs[name] = array.astype(str).astype(object)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.append(node)
        output = next(filter(None, node.output), None)
        if output is None:
            continue
        is_standard = node.domain in {"", "ai.onnx", "ai.onnx.ml"}
        report(node=node.op_type if is_standard else f"{node.domain}:{node.op_type}")
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=output))
        with contextlib.suppress(Exception):
            _run_whole(model.SerializeToString(), inputs)
    report(done=True)


def _run_whole(model: bytes, inputs: Mapping[str, Any]) -> None:
    """Run a model without optimization: an optimizer might merge the tested operator with another one."""
    disable_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {input_.name for input_ in session.get_inputs()}
    session.run(None, {name: array for name, array in inputs.items() if name in wanted})


if __name__ == "__main__":
    main()
