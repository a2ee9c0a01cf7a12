"""The cost of the model function over a bare `session.run`, on the models of the peers' benchmark.

Each repeat times `session.run` and the function alternately, in blocks of processor time, and the smallest difference
of the blocks counts, because a disturbance can only add time. Exits with 1 if a bar is missed.

    python benchmarks/function.py MODELS_FOLDER [--repeats 15] [--json]

`MODELS_FOLDER` contains tiny.onnx, wide.onnx and their inputs as .npy files with the same names.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_lambdas.function.handler import ModelFunction
from model_lambdas.function.runtime import FunctionSpec
from model_lambdas.onnx_model.session import Model, open_session
from turnout.artifacts.onnx_file import read_graph
from turnout.artifacts.onnx_signature import signature_of
from turnout.gateway.workers.memory import keep_freed_memory

BARS_US = {"tiny JSON": 10.0, "wide JSON": 2500.0, "wide binary": 200.0}


def floats(values: np.ndarray) -> list[float]:
    """Return the shortest decimals that read back as the same FP32, as a careful client sends them."""
    return [float(str(value)) for value in values.ravel()]


def make_event(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """A proxy event as API Gateway sends it; the API's binary media type is `*/*`."""
    sent = {
        "Accept": "*/*",
        "Host": "abcdefghij.execute-api.eu-central-1.amazonaws.com",
        "User-Agent": "benchmark/1.0",
        "X-Amzn-Trace-Id": "Root=1-699e4882-01d7d0c003396d7931cdb212",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
        "x-api-key": "k" * 40,
        **headers,
    }
    return {
        "resource": "/models/m/v1/inference",
        "path": "/models/m/v1/inference",
        "httpMethod": "POST",
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": {"alias": "live", "canary": "false"},
        "requestContext": {"stage": "prod", "requestId": "9c8d440b-420d-47c2-880c-c40f692293fa"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def json_event(values: np.ndarray) -> dict[str, Any]:
    tensor = {"name": "X", "shape": list(values.shape), "datatype": "FP32", "data": floats(values)}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return make_event(body, {"Content-Type": "application/json"})


def binary_event(values: np.ndarray) -> dict[str, Any]:
    parameters = {"binary_data_size": values.nbytes}
    tensor = {"name": "X", "shape": list(values.shape), "datatype": "FP32", "parameters": parameters}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": False}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    return make_event(header + values.tobytes(), headers)


def open_function(folder: Path, model: str) -> tuple[ModelFunction, Callable[[], Any], np.ndarray]:
    """Return the function, the bare run to compare it with, and the model's input."""
    path = folder / f"{model}.onnx"
    values = np.load(folder / f"{model}.npy")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    function = ModelFunction(FunctionSpec(model, "v1", digest, signature_of(read_graph(path), path.name), path), Model)
    function.load()
    session = open_session(path, 1024)
    names, feed = [output.name for output in session.get_outputs()], {"X": values}
    return function, lambda: session.run(names, feed), values


def time_block(call: Callable[[], Any], count: int) -> float:
    """Return microseconds of processor time per call."""
    started = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - started) / count * 1e6


def measure(function: ModelFunction, run: Callable[[], Any], event: dict[str, Any], repeats: int) -> dict[str, float]:
    def call() -> dict[str, Any]:
        return function(event, None)

    assert call()["statusCode"] == 200, call()["body"]
    seconds_each = max(time_block(call, 5), 1.0) / 1e6
    count = max(5, int(0.05 / seconds_each))
    bare, whole = [], []
    for _ in range(repeats):
        bare.append(time_block(run, count))
        whole.append(time_block(call, count))
    return {
        "run_us": min(bare),
        "function_us": min(whole),
        "over_us": min(whole) - min(bare),
        "median_over_us": statistics.median(w - b for w, b in zip(whole, bare, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="a folder with tiny and wide, .onnx and .npy")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    arguments = parser.parse_args()
    keep_freed_memory()  # as a worker does
    rows = {}
    for name, make in {"tiny JSON": json_event, "wide JSON": json_event, "wide binary": binary_event}.items():
        function, run, values = open_function(arguments.models, name.partition(" ")[0])
        rows[name] = measure(function, run, make(values), arguments.repeats) | {"bar_us": BARS_US[name]}
    if arguments.json:
        print(json.dumps(rows))
    else:
        print(f"{'us':14}{'session.run':>14}{'function':>14}{'over it':>14}{'median':>14}{'bar':>10}")
        for name, entry in rows.items():
            figures = (entry["run_us"], entry["function_us"], entry["over_us"], entry["median_over_us"])
            print(f"{name:14}" + "".join(f"{figure:>14,.1f}" for figure in figures) + f"{entry['bar_us']:>10,.0f}")
    sys.exit(any(entry["over_us"] > entry["bar_us"] for entry in rows.values()))


if __name__ == "__main__":
    main()
