"""Two projects on one domain, as docs/scaling.md splits a project that is too large."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import orjson
import pytest

from tests.builders.graphs import write_scaled
from turnout.gateway.editions.edition import build_gateway, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.http_server.messages import Request, Response
from turnout.project.project import load_project

BODY = orjson.dumps({"inputs": {"x": [[1, 2, 3, 4]]}})


def write_shard(folder: Path, name: str, factor: float, domain: str) -> Path:
    folder.mkdir()
    write_scaled(folder / "model.onnx", factor)
    rows = (
        f"platform: {name}",
        "routes: shared",
        f"domain: {{name: ml.example.com, base_path: {name}, {domain}}}",
        "models: {iris: {versions: {v1: {artifact: model.onnx}}}}",
        'stages: {prod: {serve: {"*": newest}}}',
    )
    (folder / "models.yaml").write_text("\n".join(rows))
    return folder / "models.yaml"


@pytest.mark.parametrize("name", ["vision", "language"])
def test_each_project_answers_only_below_its_base_path(tmp_path: Path, name: str) -> None:
    certificate = "certificate_arn: 'arn:aws:acm:eu-west-1:123456789012:certificate/1'"
    files = {
        "vision": write_shard(tmp_path / "vision", "vision", 2, certificate),
        "language": write_shard(tmp_path / "language", "language", 3, "create: false"),
    }
    plans = {shard: make_local_plan(load_project(file)) for shard, file in files.items()}
    named = [{function.name for function in plan.functions} | {plan.apis[0].name} for plan in plans.values()]
    assert named[0].isdisjoint(named[1])
    project = load_project(files[name])
    functions = make_functions(project, plans[name])
    gateway = build_gateway(project, plans[name], functions)

    def ask(method: str, path: str) -> Response:
        async def asking() -> Response:
            headers = [("Host", "ml.example.com"), ("content-type", "application/json")]
            outcome: Response | Awaitable[Response] = gateway.handle(Request(method, path, "", headers, BODY))
            return outcome if isinstance(outcome, Response) else await asyncio.wait_for(outcome, 60)

        return asyncio.run(asking())

    answered = ask("POST", f"/{name}/prod/models/iris/inference")
    assert answered.status == 200
    factor = 2.0 if name == "vision" else 3.0
    assert orjson.loads(answered.body)["outputs"]["y"] == [[factor * number for number in (1, 2, 3, 4)]]
    (other,) = files.keys() - {name}
    assert ask("POST", f"/{other}/prod/models/iris/inference").status == 403
    (listed,) = orjson.loads(ask("GET", f"/{name}/prod/models").body)["models"]
    assert listed["endpoint"] == f"/{name}/prod/models/iris/inference"
    functions.close(10)
