"""Measures the time to read and plan a large manifest: 1,000 models of 3 versions each, on two stages.

Run: `.venv/bin/python -m benchmarks.plan [MODELS VERSIONS]`. Prints the median of 5 runs of each part: parsing the text
of models.yaml, planning with artifacts that are already inspected, building the document, and writing it; then of whole
commands in separate processes, on a project with as many files, inspected before. A plan of this size is far beyond
what AWS allows for one API: the parts are made without enforcing the quotas, and `turnout plan` ends by rejecting it.
README.md contains the measured times.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import onnx
from onnx import TensorProto, helper

from turnout.artifacts.artifact import Artifact
from turnout.artifacts.cache import SETTLED_AFTER_S
from turnout.manifest.parser import Manifest, parse_manifest
from turnout.openapi.document import build_document, render_document
from turnout.plan.planner import make_plan
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

RUNS = 5
T = TypeVar("T")


def write_manifest(models: int, versions: int) -> bytes:
    """Return the text of a models.yaml as a user would write it."""
    lines = ["platform: turnout", "defaults: {architecture: arm64, memory_mb: 1024, timeout_s: 15}", "models:"]
    for model in range(models):
        lines += [f"  model-m{model}:", f"    description: Model number {model}.", "    versions:"]
        lines += [f"      v{n + 1}: {{artifact: models/m{model}/v{n + 1}/model.onnx}}" for n in range(versions)]
    lines += ["stages:", '  dev: {serve: {"*": newest}}', "  prod:", '    serve: {"*": newest}']
    lines += ["    canary: {percent: 10, serve: {model-m0: v1}}", ""]
    return "\n".join(lines).encode()


def make_artifacts(manifest: Manifest) -> dict[tuple[str, str], Artifact]:
    """Return artifacts as `load_project` would read them from the cache: three inputs and two outputs each."""
    signature = Signature(
        tuple(TensorSpec(f"input_{n}", "FP32", (-1, 8), ("batch", None)) for n in range(3)),
        (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3))),
    )
    return {
        (version.model, version.name): Artifact(
            Path("/model.onnx"), sha256(version.artifact.encode()).hexdigest(), 100_000, signature
        )
        for model in manifest.models
        for version in model.versions
    }


def measure(name: str, work: Callable[[], T]) -> T:
    """Run it several times, print the median, return the last result."""
    times_s = []
    for _ in range(RUNS):
        start = time.perf_counter()
        answer = work()
        times_s.append(time.perf_counter() - start)
    times_ms = [time_s * 1000 for time_s in times_s]
    print(f"{name:<28}{statistics.median(times_ms):8,.0f} ms   ({min(times_ms):,.0f} - {max(times_ms):,.0f})")
    return answer


def write_project(folder: Path, text: bytes, manifest: Manifest) -> None:
    """Write models.yaml and a small ONNX file for each version."""
    (folder / "models.yaml").write_bytes(text)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
    for version in (version for model in manifest.models for version in model.versions):
        path = folder / version.artifact
        path.parent.mkdir(parents=True)
        nodes = [helper.make_node("Identity", ["x"], ["y"])]
        graph = helper.make_graph(nodes, f"{version.model} {version.name}", tensors[:1], tensors[1:])
        onnx.save(helper.make_model(graph), path)


def run_command(name: str, folder: Path) -> None:
    """Run one command in a separate process; its output is ignored."""
    subprocess.run([sys.executable, "-m", "turnout.cli", name, "-m", str(folder)], capture_output=True, check=False)


def main(models: int, versions: int) -> None:
    print(
        f"{models:,} models x {versions} versions, Python {platform.python_version()}, median of {RUNS} (least - most)"
    )
    text = write_manifest(models, versions)
    path = Path("models.yaml").absolute()
    manifest = measure("parse_manifest", lambda: parse_manifest(text, path=path, source="models.yaml"))
    artifacts = make_artifacts(manifest)
    plan = measure("make_plan", lambda: make_plan(manifest, artifacts, enforce=False))
    document = measure("build_document", lambda: build_document(plan, plan.apis[0]))
    data = measure("render_document", lambda: render_document(document))
    print(f"{len(text):,} bytes of YAML, {len(plan.functions):,} functions, {len(data):,} bytes of document")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, text, manifest)
        time.sleep(SETTLED_AFTER_S)  # a file that was just written is not cached
        start = time.perf_counter()
        run_command("validate", folder)
        print(f"{'turnout validate, at first':<28}{(time.perf_counter() - start) * 1000:8,.0f} ms")
        for command in ("validate", "plan", "models"):
            measure(f"turnout {command}", lambda command=command: run_command(command, folder))  # type: ignore[misc]


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:3] if len(sys.argv) > 2 else ["1000", "3"])))
