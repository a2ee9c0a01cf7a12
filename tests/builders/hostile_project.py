"""A project whose transform runs any Python code in a request, which is used for attacks.

Run as a module, it runs the attacks of a JSON file as the current user: `python -m ... PROJECT ATTACKS.json`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import uvloop

from tests.builders.graphs import write_identity
from tests.builders.model_functions import proxy_event
from tests.builders.waiting import PATIENCE_S
from turnout.gateway.editions.isolated import prepare_codes
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.limits import EnvironmentLimits
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.plan.planner import make_plan
from turnout.project.project import load_project

MANIFEST = """
platform: turnout
models:
  hostile:
    versions:
      v1: {artifact: models/hostile/v1/model.onnx, transform: models/hostile/v1/transform.py}
stages:
  dev: {serve: {"*": newest}}
"""

TRANSFORM = """
import numpy as np


def preprocess(inputs):
    scope = {"result": None}
    try:
        exec(inputs["x"][0].decode(), scope)
        text = repr(scope["result"])
    except BaseException as error:
        text = type(error).__name__
    return {"x": np.array([text], object)}
"""


def write_hostile(folder: Path) -> Path:
    """Write the project below an empty folder."""
    version = folder / "models" / "hostile" / "v1"
    version.mkdir(parents=True)
    write_identity(version / "model.onnx", "BYTES", ["n"])
    (version / "transform.py").write_text(TRANSFORM)
    (folder / "models.yaml").write_text(MANIFEST)
    return folder


def codes_of(folder: Path) -> list[FunctionCode]:
    """Return the code of its environments, with packages built."""
    project = load_project(folder / "models.yaml")
    codes = prepare_codes(project, make_plan(project.manifest, project.artifacts, enforce=False))
    return [code for code in codes if code.function.kind == "model"]


def run_attacks(codes: Sequence[FunctionCode], attacks: Mapping[str, str]) -> dict[str, str]:
    """Run each attack's Python in one environment; return name -> the `repr` of its `result`, or its
    exception's type.
    """
    functions = IsolatedFunctions(codes, EnvironmentLimits(1, 300.0))

    async def run() -> dict[str, str]:
        results = {}
        for name, source in attacks.items():
            event = proxy_event(json.dumps({"inputs": {"x": [source.replace("SERVER", str(os.getpid()))]}}))
            called = functions.invoke("turnout-local_hostile_v1", "live", event, PATIENCE_S)
            invocation = called if isinstance(called, Invocation) else await called
            answer = invocation.answer
            results[name] = (
                orjson.loads(answer["body"])["outputs"]["y"][0] if answer else f"no answer: {invocation.message}"
            )
        return results

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())
    finally:
        functions.close()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_attacks(codes_of(Path(sys.argv[1])), json.loads(Path(sys.argv[2]).read_text()))))
