"""Compares a pool's function with a version's own function, without Lambda: calls, loads, memory.

Writes models of about a megabyte, and measures processor time, which a busy machine affects least: a call of a
version's own function, a call of a loaded version of a pool, and a call that loads one first. Then it calls many
versions in turn in a pool that can hold some of them, and prints the process's resident memory.

    python benchmarks/pool.py --models 200 --memory 1769
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_lambdas.function.entry import load_pool, make_function
from turnout.artifacts.artifact import load_artifact
from turnout.artifacts.session_size import estimate_session_bytes
from turnout.plan.checks.pools import session_room

SIDE = 500
"""Side of a square matrix of 4-byte numbers: a megabyte."""

CONTEXT = SimpleNamespace(invoked_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:bench_small_pool:live")


def write_model(path: Path, seed: int) -> None:
    """Write a model that multiplies a row by a matrix."""
    weights = np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", SIDE]) for name in ("x", "y"))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "bench", [x], [y], [numpy_helper.from_array(weights, "w")]
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def make_fields(folder: Path, number: int) -> dict[str, Any]:
    """Return one version as in `pool.json`, and put its model into the folder of its digest."""
    path = folder / f"new-{number}" / "model.onnx"
    write_model(path, number)
    artifact = load_artifact(path, None)
    path.parent.rename(folder / artifact.sha256)
    return {
        "model": f"m{number}",
        "version": "v1",
        "sha256": artifact.sha256,
        "signature": artifact.signature.to_json(),
        "public": None,
        "opener": "onnx_model.session",
        "artifact": "model/model.onnx",
        "transform": None,
        "stored": [{"name": "model.onnx", "bytes": artifact.size_bytes, "sha256": artifact.sha256}],
        "fatal": [],
        "capture": None,
        "location": "",
        "session_bytes": estimate_session_bytes(artifact.size_bytes),
    }


def make_event(model: str) -> dict[str, Any]:
    """Return a call of one version."""
    tensor = {"name": "x", "shape": [1, SIDE], "datatype": "FP32", "data": [0.5] * SIDE}
    body = base64.b64encode(json.dumps({"inputs": [tensor]}).encode()).decode()
    headers = {"content-type": "application/json"}
    return {"resource": f"/models/{model}/v1/inference", "headers": headers, "body": body, "isBase64Encoded": True}


def measure(call: Callable[[], Mapping[str, Any]], times: int) -> float:
    """Return the median processor milliseconds of a call."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        answer = call()
        taken.append(time.process_time() - started)
        assert answer["statusCode"] == 200
    return statistics.median(taken) * 1000


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--memory", type=int, default=1769, help="memory_mb of the pool")
    parser.add_argument("--calls", type=int, default=2000, help="calls in turn, of models by 1/rank")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        versions = [make_fields(folder, number) for number in range(arguments.models)]
        fields = {
            "pool": "bench",
            "imports": ["onnxruntime"],
            "session_bytes": session_room(arguments.memory),
            "disk_bytes": 512 * 1024 * 1024,
            "logs": False,
            "versions": versions,
        }
        pool = load_pool(folder, fields, {"TURNOUT_MODELS": str(folder)})
        own = make_function({**versions[0], "artifact": f"{versions[0]['sha256']}/model.onnx"}, folder, folder)
        own.load()
        events = {version["model"]: make_event(version["model"]) for version in versions}
        base_mb = resident_mb()
        for _ in range(3):
            for kind, call in (
                ("own", lambda: own(events["m0"], CONTEXT)),
                ("pool", lambda: pool(events["m0"], CONTEXT)),
            ):
                print(f"{kind}: {measure(call, 300):.3f} ms a call")
        small = load_pool(folder, {**fields, "session_bytes": 1}, {"TURNOUT_MODELS": str(folder)})
        names = [version["model"] for version in versions]
        numbers = iter(range(10**6))
        print(f"load: {measure(lambda: small(events[names[next(numbers) % len(names)]], CONTEXT), 60):.1f} ms a call")
        draw = random.Random(1)
        weights = [1 / rank for rank in range(1, len(names) + 1)]
        loads = 0
        for name in draw.choices(names, weights, k=arguments.calls):
            loads += (name, "v1") not in pool.cache
            assert pool(events[name], CONTEXT)["statusCode"] == 200
        used = pool.cache.used.memory_bytes / 1e6
        print(
            f"{arguments.calls:,} calls of {len(names):,} models: {loads:,} loads, {used:,.0f} MB counted, "
            f"{resident_mb() - base_mb:,.0f} MB resident more than at first"
        )


if __name__ == "__main__":
    main()
