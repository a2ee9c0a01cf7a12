"""A project whose versions disagree on a known share of inputs, and requests whose answers are all known in advance."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import orjson
from onnx import TensorProto, helper

from tests.builders.graphs import value, write_graph
from tests.builders.http_server import Client

LIMITS = {"v1": 50, "v2": 60, "same": 50}
"""Each version reports whether a number is above its limit: v1 and v2 disagree on ten of the hundred `BODIES`."""

BODIES = [{"instances": [[number]]} for number in range(100)]

FAILING = """\
def preprocess(inputs):
    if inputs["x"][0, 0] % 10 < 3:
        raise RuntimeError("three of ten")
    return inputs
"""

PASSING = """\
def preprocess(inputs):
    return inputs
"""
"""Transform of the version with which `failing` is compared: both run a transform in a thread, so they are equally
fast.
"""

MODELS = """\
platform: shop
defaults:
  canary: {confidence: 0.999}  # a good canary is rolled back in one run of a thousand at most
models:
  step:
    versions:
      v1: {artifact: v1.onnx, transform: passing.py}
      v2: {artifact: v2.onnx}
      same: {artifact: same.onnx}
      failing: {artifact: same.onnx, transform: failing.py}
  other: {versions: {v1: {artifact: v1.onnx}, v2: {artifact: v2.onnx}}}
stages:
"""


def write_limits_project(folder: Path, stages: str) -> None:
    """Write the models `step` and `other`, and these stages: lines of YAML, indented by two spaces."""
    for name, limit in LIMITS.items():
        write_limit(folder / f"{name}.onnx", limit)
    (folder / "failing.py").write_text(FAILING)
    (folder / "passing.py").write_text(PASSING)
    (folder / "models.yaml").write_text(MODELS + stages)


def write_limit(path: Path, limit: int) -> None:
    """Write a model that reports whether `x` (FP32 [-1,1]) is above a limit: `label` INT64 [-1,1]."""
    nodes = [
        helper.make_node("Greater", ["x", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
    ]
    bound = helper.make_tensor("limit", TensorProto.FLOAT, [], [limit])
    write_graph(path, nodes, [value("x", "FP32", ["batch", 1])], [value("label", "INT64", ["batch", 1])], [bound])


def path_of(stage: str, model: str = "step") -> str:
    return f"/{stage}/models/{model}/inference"


def draw(port: int, stage: str, requests: int) -> Counter[tuple[str, str]]:
    """Return how often each version and share (`true` for the canary's) answered, on four connections.

    Every answer must be the one of its version.
    """
    seen: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def send(numbers: range) -> None:
        try:
            with Client(("127.0.0.1", port)) as client:
                for number in numbers:
                    body = orjson.dumps(BODIES[number % len(BODIES)])
                    head = f"POST {path_of(stage)} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
                    answer = client.ask(head.encode() + body)
                    version = answer.header("x-turnout-version") or ""
                    assert answer.status == 200, answer
                    assert orjson.loads(answer.body) == {"predictions": [[int(number % 100 > LIMITS[version])]]}
                    seen.append((version, answer.header("x-turnout-canary") or ""))
        except BaseException as error:  # reported by the test
            failures.append(error)

    threads = [threading.Thread(target=send, args=(range(first, requests, 4),)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return Counter(seen)
