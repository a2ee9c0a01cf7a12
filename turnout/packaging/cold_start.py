"""Measures cold starts: the time from a fresh process to a version's first answer.

Each measurement runs in its own process, like each execution environment of Lambda. The interpreter's own start is not
included: it is the same for every function.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

from turnout.artifacts.example_request import make_request
from turnout.layout import model_lambdas_package
from turnout.manifest.parser import Version
from turnout.project.project import Project
from turnout.protocol.telemetry import TELEMETRY_OFF
from turnout.runtimes.registry import RUNTIMES
from turnout.system.processes import run_child

REPEATS = 3
"""Processes per figure; the median is reported."""

FUNCTION = """
import json, sys, time
row = json.load(sys.stdin)
start = time.perf_counter()
import importlib, pathlib
for name in row["imports"]:
    importlib.import_module(name)
handler = importlib.import_module(row["package"] + ".function.handler")
runtime = importlib.import_module(row["package"] + ".function.runtime")
open_model = runtime.find_opener(row["opener"])
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.image_input import ImageInput
imported = time.perf_counter()
spec = runtime.FunctionSpec(
    row["model"], row["version"], row["sha256"], Signature.from_json(row["signature"]), pathlib.Path(row["artifact"]),
    row["transform"] and pathlib.Path(row["transform"]), row["memory_mb"],
    transform_files=row["transform_files"], public=row["public"] and Signature.from_json(row["public"]),
    image=row["image"] and ImageInput.from_json(row["image"]),
)
function = handler.ModelFunction(spec, open_model)
function.load()
opened = time.perf_counter()
answer = function(row["event"], None)
ran = time.perf_counter()
if answer["statusCode"] != 200:
    sys.exit(answer["body"])
json.dump({"import_ms": imported - start, "session_ms": opened - imported, "first_run_ms": ran - opened}, sys.stdout)
"""


class ColdStartError(Exception):
    """A version does not start or does not answer; the message contains its name and the reason."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One version's cold start, in milliseconds, each figure the median of `REPEATS` fresh processes.

    Args:
        model: the model's name.
        import_ms: importing the runtime, numpy and the handler.
        session_ms: opening the version and the transform.
        session_ms: opening the version and the transform.
        first_run_ms: the first request, from event to answer.
        bare_ms: for comparison: only importing the runtime and opening a model with it; None if the runtime offers no
            comparison.
    """

    model: str
    version: str
    import_ms: float
    session_ms: float
    first_run_ms: float
    bare_ms: float | None = None

    @property
    def total_ms(self) -> float:
        """Time from the interpreter's first line to the first answer."""
        return self.import_ms + self.session_ms + self.first_run_ms

    def to_json(self) -> dict[str, Any]:
        """Return all figures, rounded to 10 us."""
        figures = {field.name: getattr(self, field.name) for field in fields(self)}
        figures["total_ms"] = self.total_ms
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


def measure_cold_starts(project: Project, only: Collection[tuple[str, str]] | None = None) -> Iterator[ColdStart]:
    """Measure every version whose artifact is on this machine, one after the other, in the manifest's order.

    Args:
        project: the project.
        only: (model, version) pairs to measure; None for all.

    Raises:
        ColdStartError: a version does not start, or refuses its example.
    """
    examples = project.first_requests
    for model in project.manifest.models:
        for version in model.versions:
            key = (version.model, version.name)
            if key in project.artifacts and (only is None or key in only):
                request = examples.get(key) or make_request(project.artifacts[key].signature)
                yield _measure(project, version, request)


def _measure(project: Project, version: Version, request: Any) -> ColdStart:
    artifact = project.artifacts[version.model, version.name]
    runtime = RUNTIMES[version.runtime]
    body = base64.b64encode(json.dumps(request).encode()).decode()
    figures = {
        "package": model_lambdas_package(),
        "opener": runtime.opener,
        "imports": runtime.imports,
        "model": version.model,
        "version": version.name,
        "sha256": artifact.sha256,
        "signature": artifact.graph_signature.to_json(),
        "public": None if artifact.graph is None else artifact.signature.to_json(),
        "artifact": str(artifact.path),
        "transform": str(project.manifest.path.parent / version.transform) if version.transform else None,
        "transform_files": list(project.transforms.get((version.model, version.name), ())),
        "image": version.image.to_json() if version.image else None,
        "memory_mb": version.memory_mb,
        "threads": max(1, round(version.memory_mb / 1769)),
        "event": {"headers": {"Content-Type": "application/json"}, "body": body, "isBase64Encoded": True},
    }
    scripts = list(filter(None, (FUNCTION, runtime.bare_script)))
    runs = ([_run(version, script, figures) for script in scripts] for _ in range(REPEATS))
    samples = [{name: value for run in passes for name, value in run.items()} for passes in runs]
    medians = {name: 1e3 * statistics.median(sample[name] for sample in samples) for name in samples[0]}
    return ColdStart(version.model, version.name, **medians)


def _run(version: Version, script: str, fields: dict[str, Any]) -> dict[str, float]:
    variables = {**os.environ, **TELEMETRY_OFF}
    done = run_child([sys.executable, "-I", "-c", script], stdin=json.dumps(fields), env=variables)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["the process ended without output"])[-1]
        raise ColdStartError(f"{version.model} {version.name} does not start: {reason}")
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds
