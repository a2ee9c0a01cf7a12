"""A project assembled into a gateway, without sockets, with real sessions."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.builders.graphs import write_identity
from tests.builders.helper_project import write_helper_project
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import build_gateway, load_keys, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.functions.in_process.functions import InProcessFunctions
from turnout.gateway.functions.invocation import Loaded
from turnout.gateway.serve import choose_sample, log_refusal, make_url, notify, print_load
from turnout.http_server.messages import Request, Response
from turnout.http_server.wire import make_refusal
from turnout.project.project import Project, load_project
from turnout.protocol.aws.access_log import ACCESS_LOG_FIELDS

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: echo.onnx, timeout_s: 3}
      v2: {artifact: echo.onnx}
  doubled:
    versions:
      v1: {artifact: echo.onnx, transform: double.py}
  far:
    versions:
      v1: {artifact: "s3://bucket/model.onnx", sha256: "SHA"}
stages:
  dev: {serve: {echo: v1, "*": newest}}
  keyed: {serve: {"*": newest}, auth: api_key}
  weighted: {serve: {"*": newest}, weights: {echo: {v1: 50, v2: 50}}}
"""
DOUBLE = "def preprocess(inputs):\n    return {name: values * 2 for name, values in inputs.items()}\n"
BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "double.py").write_text(DOUBLE)
    (tmp_path / "models.yaml").write_text(MANIFEST.replace("SHA", "0" * 64))
    return load_project(tmp_path / "models.yaml")


@pytest.fixture
def functions(project: Project) -> Iterator[InProcessFunctions]:
    made = make_functions(project, make_local_plan(project))
    yield made
    made.close(10)
    assert made.busy_after_close == 0


async def result_of(outcome: Response | Awaitable[Response]) -> Response:
    return outcome if isinstance(outcome, Response) else await asyncio.wait_for(outcome, 20)


def post(gateway: Gateway, path: str, body: bytes = BODY, **headers: str) -> Response:
    fields = [("Host", "here"), ("content-type", "application/json")]
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]

    async def ask() -> Response:
        return await result_of(gateway.handle(Request("POST", path, "", fields, body)))

    return asyncio.run(ask())


def header(response: Response, name: str) -> str:
    return next(value for known, value in response.headers if known.lower() == name)


def test_the_first_stage_answers_paths_without_a_stage(project: Project, functions: InProcessFunctions) -> None:
    gateway = build_gateway(project, make_local_plan(project), functions)
    response = post(gateway, "/models/echo/inference")
    assert response.status == 200
    assert header(response, "x-turnout-version") == "v1"
    assert header(response, "x-turnout-digest") == project.artifacts["echo", "v1"].sha256[:12]
    assert json.loads(response.body)["outputs"][0]["data"] == [1, 2, 3, 4]


def test_a_configured_default_stage_answers_paths_without_a_stage(
    project: Project, functions: InProcessFunctions
) -> None:
    gateway = build_gateway(project, make_local_plan(project), functions, stage="weighted")
    assert header(post(gateway, "/models/doubled/inference"), "x-turnout-model") == "doubled"
    with pytest.raises(ValueError, match="nowhere"):
        build_gateway(project, make_local_plan(project), functions, stage="nowhere")


def test_a_transform_runs_around_the_session(project: Project, functions: InProcessFunctions) -> None:
    gateway = build_gateway(project, make_local_plan(project), functions)
    assert json.loads(post(gateway, "/models/doubled/v1/inference").body)["outputs"][0]["data"] == [2, 4, 6, 8]


def test_versions_use_the_helpers_next_to_their_own_transforms(tmp_path: Path) -> None:
    project = load_project(write_helper_project(tmp_path) / "models.yaml")
    plan = make_local_plan(project)
    made = make_functions(project, plan)
    try:
        gateway = build_gateway(project, plan, made)
        for version, factor in (("v2", 100), ("v1", 10), ("v2", 100)):
            response = post(gateway, f"/models/echo/{version}/inference")
            assert json.loads(response.body)["outputs"][0]["data"][0] == factor
    finally:
        made.close(10)


def test_version_stored_elsewhere_gets_a_500_with_the_reason_in_the_log(
    project: Project, functions: InProcessFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = build_gateway(project, make_local_plan(project), functions)
    response = post(gateway, "/models/far/v1/inference")
    assert response.status == 500
    assert json.loads(response.body) == {"message": "Internal server error"}
    assert "is not on this machine" in caplog.text


def test_routed_model_answers_through_its_router(project: Project, functions: InProcessFunctions) -> None:
    gateway = build_gateway(project, make_local_plan(project), functions)
    response = post(gateway, "/weighted/models/echo/inference")
    assert response.status == 200
    headers = dict(response.headers)
    assert headers["x-turnout-route"] == "weight"
    assert headers["x-turnout-version"] in {"v1", "v2"}


def test_keys_are_accepted_by_the_stages_that_require_one(project: Project, functions: InProcessFunctions) -> None:
    plan = make_local_plan(project)
    keys = load_keys(project, plan)
    assert list(keys) == ["keyed"]
    gateway = build_gateway(project, plan, functions, keys=keys)
    assert post(gateway, "/keyed/models/echo/inference").status == 403
    assert post(gateway, "/keyed/models/echo/inference", x_api_key=keys["keyed"]).status == 200
    assert not gateway.notes
    assert any("API key" in note for note in build_gateway(project, plan, functions).notes)


def test_equal_projects_have_equal_ids(project: Project, functions: InProcessFunctions) -> None:
    plan = make_local_plan(project)
    first, second = (build_gateway(project, plan, functions).stages.settings for _ in range(2))
    assert first == second
    assert len({stage.api for stage in first}) == 2  # the keyed stage has its own document
    assert all(len(stage.api) == 10 and len(stage.deployment_id) == 6 for stage in first)


def test_sessions_are_preloaded_and_reported(
    project: Project, functions: InProcessFunctions, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(functions.preload(print_load))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # the artifact that is stored elsewhere is not among them
    assert lines[-1].startswith("[3/3] ")
    assert all("loaded in" in line for line in lines)


def test_a_failed_load_is_reported_with_its_reason(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    function = make_local_plan(project).functions[0]
    print_load(Loaded(function, 0.5, "ModelError: no", 1, 4))
    assert capsys.readouterr().err == "[1/4] echo v1 failed: ModelError: no\n"


def test_a_deleted_artifact_fails_only_its_own_function(
    project: Project, functions: InProcessFunctions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = build_gateway(project, make_local_plan(project), functions)
    assert post(gateway, "/models/echo/v1/inference").status == 200
    (tmp_path / "echo.onnx").rename(tmp_path / "away.onnx")
    assert post(gateway, "/models/echo/v2/inference").status == 502
    assert "echo.onnx" in caplog.text
    assert post(gateway, "/models/echo/v1/inference").status == 200
    (tmp_path / "away.onnx").rename(tmp_path / "echo.onnx")
    assert post(gateway, "/models/echo/v2/inference").status == 200


# --- printed output


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("localhost", "http://localhost:8080"),
    ],
)
def test_an_address_can_be_copied(host: str, url: str) -> None:
    assert make_url(host, 8080) == url


def test_a_sample_is_the_first_short_request(project: Project, tmp_path: Path) -> None:
    sample = choose_sample(project, make_local_plan(project), "keyed", {"keyed": "k"})
    assert sample is not None
    assert sample.path == "/models/echo/inference"
    assert sample.key_of == "keyed"
    assert sample.body["inputs"][0]["name"] == "x"


def test_a_sample_is_an_example_if_there_is_one(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "models" / "iris", tmp_path / "models" / "iris")
    text = """
platform: turnout
models:
  iris:
    versions:
      v1: {artifact: models/iris/v1/model.onnx, examples: models/iris/v1/examples.json}
stages:
  dev: {serve: {iris: v1}}
  shared: {serve: {}, weights: {iris: {v1: 100}}}
"""
    (tmp_path / "models.yaml").write_text(text)
    project = load_project(tmp_path / "models.yaml")
    plan = make_local_plan(project)
    example = json.loads((tmp_path / "models/iris/v1/examples.json").read_text())[0]
    for stage, path in (("dev", "/models/iris/inference"), ("shared", "/models/iris/v1/inference")):
        sample = choose_sample(project, plan, stage, {})
        assert sample is not None
        assert (sample.path, sample.body) == (path, example["request"])


def test_a_sample_of_a_routed_model_calls_a_version_and_a_huge_request_is_never_made(tmp_path: Path) -> None:
    write_identity(tmp_path / "giant.onnx", shape=[1 << 62, 1 << 62])
    write_identity(tmp_path / "echo.onnx")
    text = """
models:
  giant: {versions: {v1: {artifact: giant.onnx}}}
  echo: {versions: {v1: {artifact: echo.onnx}}, routing: {fallback: v1}}
stages:
  dev: {serve: {"*": newest}}
"""
    (tmp_path / "models.yaml").write_text(text)
    project = load_project(tmp_path / "models.yaml")
    sample = choose_sample(project, make_local_plan(project), "dev", {})
    assert sample is not None
    assert sample.path == "/models/echo/v1/inference"


def test_a_sample_is_the_shortest_if_all_are_long_and_none_without_models(tmp_path: Path) -> None:
    write_identity(tmp_path / "long.onnx", shape=[1, 900])
    write_identity(tmp_path / "longer.onnx", shape=[1, 2000])
    text = """
platform: turnout
models:
  longer: {versions: {v1: {artifact: longer.onnx}}}
  long: {versions: {v1: {artifact: long.onnx}}}
stages:
  dev: {serve: {"*": newest}}
"""
    (tmp_path / "models.yaml").write_text(text)
    project = load_project(tmp_path / "models.yaml")
    plan = make_local_plan(project)
    sample = choose_sample(project, plan, "dev", {})
    assert sample is not None
    assert sample.path == "/models/long/inference"
    assert choose_sample(Project(project.manifest, {}), plan, "dev", {}) is None


REFUSALS = {int(status): make_refusal(status) for status in HTTPStatus if status >= 400}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_requests_rejected_by_the_http_server_are_logged_once(log_format: str) -> None:
    lines: list[str] = []
    write: Callable[[str], Any] = lines.append
    request = Request("POST", "/a b\n", "", (), b"")
    log_refusal(REFUSALS, write, log_format, request, REFUSALS[431], 0.001)
    log_refusal(REFUSALS, write, log_format, request, Response(431, (), b"the gateway's own"), 0.001)
    log_refusal(REFUSALS, write, log_format, request, Response(200), 0.001)
    (line,) = lines
    assert "\n" not in line
    if log_format == "json":
        fields = json.loads(line)
        assert fields.keys() == ACCESS_LOG_FIELDS.keys()
        assert (fields["method"], fields["status"], fields["function"]) == ("POST", 431, "-")
    else:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.1 POST /a\\x20b\\x0a 431 ", line)


def test_unwritable_output_does_not_stop_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a stream as a shell's redirection makes it
        monkeypatch.setattr(sys, "stderr", full)
        with pytest.raises(OSError, match="No space left"):
            full.write("x" * 100_000)
        notify("x" * 100_000)
