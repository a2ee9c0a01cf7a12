"""The routers' zips: each runs alone, with an Invoke API on this machine and real models behind it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_lambdas.function.handler import ModelFunction
from model_lambdas.function.runtime import FunctionSpec
from model_lambdas.onnx_model.session import Model
from tests.builders.credentials_server import serve_credentials
from tests.builders.general_router import route_event, v2_event
from tests.builders.invoke_api import InvokeApi, Reply, Seen, invoke_api
from tests.builders.shared_layers import shared_layers
from turnout.packaging.build import BuildTarget, BuiltPackage, build_packages
from turnout.packaging.routers import find_routers
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.project.project import Project, load_project

MANIFEST = """
models:
  iris:
    versions:
      v1: {artifact: models/iris/v1/model.onnx, examples: models/iris/v1/examples.json}
      v2: {artifact: models/iris/v2/model.onnx}
    routing: {fallback: v1, shadow: {version: v2, percent: 100}}
  vote:
    graph:
      ensemble: [{model: iris, version: v1}, {model: iris, version: v2}]
      combine: {probabilities: mean, label: vote}
stages:
  prod: {serve: {iris: v1}}
"""

ALONE = """
import json, os, sys, time
task, *layers = sys.argv[1:]
sys.path[:0] = [task, *layers]
os.environ["LAMBDA_TASK_ROOT"] = task
from router_lambda.entry import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 20000

answers = [handler(event, Context()) for event in json.load(sys.stdin)]
modules = set(sys.modules)
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
outside = [file for file in files if "site-packages" in file]
loaded = sorted({"numpy", "orjson", "asyncio", "boto3"} & set(sys.modules))
json.dump({"answers": answers, "outside": outside, "loaded": loaded}, sys.stdout)
"""

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
BODY = json.dumps({"inputs": {"measurements": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}})


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("routed")
    shutil.copytree(root / "models/iris", folder / "models/iris")
    (folder / "models.yaml").write_text(MANIFEST)
    return load_project(folder / "models.yaml")


def plan_of(project: Project, stack: str = "local") -> Plan:
    return make_plan(project.manifest, project.artifacts, stack=stack)


@pytest.fixture(scope="module")
def built(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BuiltPackage]:
    out, routers = tmp_path_factory.mktemp("packages"), find_routers(project, plan_of(project))
    with shared_layers(out, tmp_path_factory):
        packages = build_packages(project, out=out, target=BuildTarget(python=""), routers=routers, only=[])
    return {package.name: package for package in packages}


@pytest.fixture(scope="module")
def functions(project: Project) -> dict[str, ModelFunction]:
    results = {}
    for version in project.manifest.model("iris").versions:
        artifact = project.artifacts["iris", version.name]
        spec = FunctionSpec("iris", version.name, artifact.sha256, artifact.signature, artifact.path)
        results[f"turnout-local_iris_{version.name}"] = ModelFunction(spec, Model)
    return results


@pytest.fixture
def models(functions: dict[str, ModelFunction]) -> Iterator[InvokeApi]:
    """An Invoke API in front of iris v1 and v2; an asynchronous call is only accepted."""

    def answer(seen: Seen) -> Reply:
        name, _, alias = seen.path.split("/")[3].partition("%3A")
        if alias != "live" or name not in functions:
            return Reply(404)
        if seen.headers["x-amz-invocation-type"] == "Event":
            return Reply(202, b"")
        return Reply(body=json.dumps(functions[name](seen.event, None)).encode())

    with invoke_api(answer) as api:
        yield api


def event(**variables: str) -> dict[str, Any]:
    known = {"iris": "router", "irisRoute": "v1.100", "vote": "router", "voteRoute": "graph", "alias": "live"}
    return {
        "resource": "/models/iris/inference",
        "headers": {"Content-Type": "application/json"},
        "body": BODY,
        "isBase64Encoded": False,
        "requestContext": {"stage": "prod"},
        "stageVariables": {**known, **variables},
    }


def run_alone(
    package: BuiltPackage,
    built: dict[str, BuiltPackage],
    api: InvokeApi,
    folder: Path,
    *events: dict[str, Any],
    credentials: Mapping[str, str] = KEYS,
) -> dict[str, Any]:
    """Return the answer of the zip's handler in a process that sees only the zip and its layer."""
    paths = [folder / "task"]
    with zipfile.ZipFile(package.path) as archive:
        archive.extractall(paths[0])
    if package.layer:
        with zipfile.ZipFile(built[package.layer].path) as archive:
            archive.extractall(folder / "layer")
        paths.append(folder / "layer/python")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, *map(str, paths)],
        input=json.dumps(events),
        capture_output=True,
        text=True,
        check=False,
        env={
            **credentials,
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_LAMBDA": api.url,
            "AWS_LAMBDA_FUNCTION_NAME": f"turnout-local_{package.name}",
        },
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["outside"] == []
    return report


def outputs_of(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["statusCode"] == 200, answer["body"]
    body: dict[str, Any] = json.loads(answer["body"])["outputs"]
    return body


def test_each_router_has_a_zip_and_only_graphs_need_the_layer(built: dict[str, BuiltPackage]) -> None:
    assert {name: package.layer for name, package in built.items() if package.kind == "function"} == {
        "iris_router": "",
        "vote_router": "layer_here_python",
        "router": "",
    }


def test_the_router_of_a_model_runs_alone(built: dict[str, BuiltPackage], models: InvokeApi, tmp_path: Path) -> None:
    report = run_alone(built["iris_router"], built, models, tmp_path, event(), event(irisRoute="v3.100"))
    assert report["loaded"] == []
    chosen, instead = report["answers"]
    assert outputs_of(chosen)["label"] == outputs_of(instead)["label"] == [0, 2]
    assert (chosen["headers"]["x-turnout-version"], chosen["headers"]["x-turnout-route"]) == ("v1", "weight")
    assert instead["headers"]["x-turnout-fallback-from"] == "v3"
    copies = [seen for seen in models.seen if seen.headers["x-amz-invocation-type"] == "Event"]
    assert [seen.event["turnout"] for seen in copies] == [{"hop": 1, "shadow": True}] * len(copies)
    assert {seen.path.split("/")[3] for seen in copies} == {"turnout-local_iris_v2%3Alive"}


def test_the_router_of_a_graph_runs_alone(
    built: dict[str, BuiltPackage], models: InvokeApi, functions: dict[str, ModelFunction], tmp_path: Path
) -> None:
    report = run_alone(built["vote_router"], built, models, tmp_path, event())
    assert report["loaded"] == ["numpy", "orjson"]
    result = outputs_of(report["answers"][0])
    members = [outputs_of(function(event(), None))["probabilities"] for function in functions.values()]
    assert np.allclose(result["probabilities"], np.mean(members, axis=0))
    assert result["label"] == [0, 2]


def test_the_general_router_runs_alone(built: dict[str, BuiltPackage], models: InvokeApi, tmp_path: Path) -> None:
    infer = {**v2_event("models/iris/versions/v2/infer", "POST"), "body": BODY}
    asked = ("/health/live", "/health/ready", "/models", "/openapi.json")
    report = run_alone(built["router"], built, models, tmp_path, *map(route_event, asked), infer)
    assert report["loaded"] == []
    live, ready, listed, document, inferred = (json.loads(answer["body"]) for answer in report["answers"])
    assert (live, ready) == ({"live": True}, {"ready": True})
    assert [model["name"] for model in listed["models"]] == ["iris", "vote"]
    assert document["paths"].keys() >= {"/models/iris/inference", "/v2/models/{model}/infer"}
    assert inferred["outputs"]["label"] == [0, 2]


WORKER = """
import json, sys
sys.path[:0] = [sys.argv[1]]
from router_lambda.requests.entry import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 20000

json.dump(handler({"Records": []}, Context()), sys.stdout)
"""


def test_worker_of_asynchronous_requests_runs_from_the_general_routers_zip(
    built: dict[str, BuiltPackage], tmp_path: Path
) -> None:
    with zipfile.ZipFile(built["router"].path) as archive:
        archive.extractall(tmp_path)
    queue = "https://sqs.eu-west-1.amazonaws.com/1/q"
    names = {"TURNOUT_REQUESTS_BUCKET": "b", "TURNOUT_REQUESTS_QUEUE": queue, "TURNOUT_REQUESTS_DEAD_LETTERS": queue}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)],  # with boto3, which Lambda's runtime brings
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**KEYS, "AWS_REGION": "eu-west-1", "LAMBDA_TASK_ROOT": str(tmp_path), **names},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"batchItemFailures": []}


def test_zips_are_the_same_in_every_stack(project: Project) -> None:
    assert list(find_routers(project, plan_of(project, "prod"))) == list(find_routers(project, plan_of(project)))


def test_only_the_router_of_a_changed_model_is_rebuilt(
    project: Project, built: dict[str, BuiltPackage], tmp_path: Path
) -> None:
    folder = project.manifest.path.parent
    shutil.copytree(folder / "models", tmp_path / "models")
    (tmp_path / "models.yaml").write_text(MANIFEST.replace("fallback: v1", "fallback: v2"))
    changed = load_project(tmp_path / "models.yaml")
    out = built["router"].path.parent
    routers = [router for router in find_routers(changed, plan_of(changed)) if router.package != "router"]
    again = build_packages(changed, out=out, target=BuildTarget(python=""), routers=routers, only=[])
    assert [package.name for package in again if not package.cached] == ["iris_router", "vote_router"]
    assert again[1].digest != built["iris_router"].digest


@pytest.mark.parametrize("router", ["iris_router", "router"])
def test_a_packaged_router_needs_no_access_keys_with_snap_start(
    built: dict[str, BuiltPackage], models: InvokeApi, tmp_path: Path, router: str
) -> None:
    infer = {**v2_event("models/iris/versions/v2/infer", "POST"), "body": BODY}
    asked = event() if router == "iris_router" else infer
    with serve_credentials() as credentials:
        report = run_alone(built[router], built, models, tmp_path, asked, credentials=credentials.environ)
        assert credentials.requests == 1
    assert [answer["statusCode"] for answer in report["answers"]] == [200]
    assert "boto3" not in report["loaded"]
    assert all("Credential=local/" in seen.headers["authorization"] for seen in models.seen)
