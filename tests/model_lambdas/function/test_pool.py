"""A pool's function with real models: which version answers, what it loads, and what it logs."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from model_lambdas.function.entry import load_pool
from model_lambdas.function.pool import PoolFunction
from model_lambdas.function.runtime import ModelError
from tests.builders.object_server import Objects, serve_objects
from tests.builders.pool_project import REQUEST, write_pool_project
from turnout.packaging.build import BuildTarget, find_inputs
from turnout.packaging.pools import PoolInputs, group_by_pool, store_models
from turnout.project.project import Project, load_project
from turnout.protocol.aws.events import PING
from turnout.protocol.routing.pooled import WATCHED_VARIABLE, aim_at

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:turnout-prod_small_pool:live"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return load_project(write_pool_project(tmp_path_factory.mktemp("pool")) / "models.yaml")


@pytest.fixture(scope="module")
def inputs(project: Project) -> PoolInputs:
    (pooled,) = group_by_pool(find_inputs(project.manifest.versions, project, BuildTarget()), is_here=False)
    return pooled


@pytest.fixture
def package(inputs: PoolInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pool's zip, unpacked, and a folder for temporary files."""
    for name, content in inputs.sources().items():
        target = tmp_path / "task" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "task"


@pytest.fixture
def pool(project: Project, package: Path, tmp_path: Path) -> PoolFunction:
    store_models(project, tmp_path / "models")
    fields = json.loads((package / "pool.json").read_bytes())
    return load_pool(package, fields, {"TURNOUT_MODELS": str(tmp_path / "models")})


def event(model: str = "iris", version: str = "", **more: Any) -> dict[str, Any]:
    path = f"/models/{model}/{version}/inference" if version else f"/models/{model}/inference"
    body = base64.b64encode(orjson.dumps(REQUEST)).decode()
    headers = {"content-type": "application/json"}
    return {"resource": path, "headers": headers, "body": body, "isBase64Encoded": True, **more}


def call(pool: PoolFunction, sent: Mapping[str, Any]) -> dict[str, Any]:
    return pool(sent, SimpleNamespace(invoked_function_arn=ARN))


def value_of(answer: Mapping[str, Any]) -> float:
    assert answer["statusCode"] == 200, answer
    value: float = json.loads(answer["body"])["outputs"][0]["data"][0]
    return value


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


VARIABLES = {"iris": "v1", "digits": "v1", "alias": "live", "canary": "false"}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (event("iris", "v1"), 1.5),
        (event("iris", "v2"), 202.5),
        (event("digits", "v1"), 111.5),
        (event("iris", stageVariables=VARIABLES), 1.5),
        (event("iris", stageVariables={**VARIABLES, "iris": "v2", "canary": "true"}), 202.5),
        (event("iris", stageVariables={"choice1": "digits.v1,iris.v2", "alias": "live"}), 202.5),
        (aim_at(event("iris", stageVariables=VARIABLES), "iris", "v2"), 202.5),
        (aim_at({**event("iris"), "resource": "/v2/{proxy+}"}, "digits", "v1"), 111.5),
    ],
    ids=["path", "transform", "other helper", "stage", "canary", "packed", "router's choice", "router's path"],
)
def test_version_of_the_event_answers(pool: PoolFunction, sent: dict[str, Any], expected: float) -> None:
    assert value_of(call(pool, sent)) == expected


def test_every_answer_contains_model_version_and_digest(pool: PoolFunction, project: Project) -> None:
    for key in (("iris", "v1"), ("iris", "v2"), ("digits", "v1")):
        headers = call(pool, event(*key))["headers"]
        assert (headers["x-turnout-model"], headers["x-turnout-version"]) == key
        assert headers["x-turnout-digest"] == project.artifacts[key].sha256[:12]


def test_rejections_equal_those_of_a_separate_function(pool: PoolFunction) -> None:
    answer = call(pool, {**event("iris", "v1"), "body": base64.b64encode(b"{").decode()})
    assert answer["statusCode"] == 400
    assert answer["headers"]["x-turnout-version"] == "v1"


@pytest.mark.parametrize(
    "sent",
    [
        event("iris", "v9"),
        event("digits", "v2"),  # not in this pool
        event("iris"),  # the stage names none
        aim_at(event("iris", "v1"), "credit", "v1"),
        {**event("iris"), "resource": "/models"},
        event("iris", stageVariables=None),
    ],
)
def test_version_outside_the_pool_is_rejected(pool: PoolFunction, sent: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="the pool has no version"):
        call(pool, sent)


def test_ping_opens_a_version_only_if_it_names_one(pool: PoolFunction) -> None:
    assert call(pool, PING)["statusCode"] == 200
    assert pool.cache.used.memory_bytes == 0
    assert call(pool, aim_at(PING, "iris", "v1"))["statusCode"] == 200
    assert ("iris", "v1") in pool.cache


def test_files_exist_only_while_their_version_is_loaded(
    project: Project, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_models(project, tmp_path / "models")
    fields = json.loads((package / "pool.json").read_bytes())
    largest = max(version["session_bytes"] for version in fields["versions"])
    pool = load_pool(package, {**fields, "session_bytes": largest}, {"TURNOUT_MODELS": str(tmp_path / "models")})
    folder = tmp_path / "tmp" / "turnout"
    for version in ("v1", "v2", "v2", "v1"):
        assert value_of(call(pool, event("iris", version))) == {"v1": 1.5, "v2": 202.5}[version]
        (loaded,) = folder.iterdir()
        assert loaded.name.startswith(f"iris_{version}_")
    assert [line["loaded"] for line in lines_of(capsys)] == [True, True, False, True]


def test_log_contains_the_version_and_its_digest(
    pool: PoolFunction, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    call(pool, event("iris", "v1", stageVariables=VARIABLES))
    (line,) = lines_of(capsys)
    assert {name: line[name] for name in ("FunctionName", "Resource", "Model", "Version", "digest", "status")} == {
        "FunctionName": "turnout-prod_small_pool",
        "Resource": "turnout-prod_small_pool:live",
        "Model": "iris",
        "Version": "v1",
        "digest": project.artifacts["iris", "v1"].sha256[:12],
        "status": 200,
    }
    assert line["duration_ms"] > 0
    assert "_aws" not in line  # a metric of each version would cost more than the pool


def directives_of(line: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    rows = line["_aws"]["CloudWatchMetrics"]
    assert all(entry["Namespace"] == "Turnout" for entry in rows)
    return {metric["Name"]: entry["Dimensions"] for entry in rows for metric in entry["Metrics"]}


BY_VERSION = ["FunctionName", "Resource", "Model", "Version"]


@pytest.mark.parametrize("watched", ["iris", "digits,iris", "~"])
def test_versions_in_a_canary_write_metrics_by_version(
    pool: PoolFunction, capsys: pytest.CaptureFixture[str], watched: str
) -> None:
    call(pool, event("iris", stageVariables={**VARIABLES, WATCHED_VARIABLE: watched}))
    begun, ended = lines_of(capsys)
    assert (begun["Requests"], directives_of(begun)) == (1, {"Requests": [BY_VERSION]})
    assert directives_of(ended) == {"Duration": [BY_VERSION]}
    assert ended["Duration"] == ended["duration_ms"]
    assert (begun["Model"], begun["Version"]) == (ended["Model"], ended["Version"]) == ("iris", "v1")


@pytest.mark.parametrize("watched", ["digits", "iris-two"])
def test_other_versions_write_no_metrics(pool: PoolFunction, capsys: pytest.CaptureFixture[str], watched: str) -> None:
    call(pool, event("iris", stageVariables={**VARIABLES, WATCHED_VARIABLE: watched}))
    (line,) = lines_of(capsys)
    assert "_aws" not in line


def test_version_that_cannot_be_opened_counts_as_failed_and_is_retried(
    pool: PoolFunction, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "models" / project.artifacts["iris", "v1"].sha256
    shutil.move(stored, tmp_path / "away")
    with pytest.raises(ModelError, match=r"iris-v1\.onnx cannot be read"):
        call(pool, event("iris", "v1"))
    (line,) = lines_of(capsys)
    assert (line["status"], line["FailedAnswers"]) == (500, 1)
    assert directives_of(line) == {"FailedAnswers": [["FunctionName", "Resource"], BY_VERSION]}
    shutil.move(tmp_path / "away", stored)
    assert value_of(call(pool, event("iris", "v1"))) == 1.5


def test_changed_file_is_rejected(pool: PoolFunction, project: Project, tmp_path: Path) -> None:
    artifact = project.artifacts["iris", "v1"]
    file = tmp_path / "models" / artifact.sha256 / artifact.path.name
    file.unlink()  # it may be a link to the project's
    file.write_bytes(project.artifacts["iris", "v2"].path.read_bytes())
    with pytest.raises(ModelError, match=r"has changed since models\.yaml was read"):
        call(pool, event("iris", "v1"))
    assert not list((tmp_path / "tmp" / "turnout").iterdir())


@pytest.fixture
def objects() -> Iterator[Objects]:
    with serve_objects() as served:
        yield served


def test_models_are_fetched_from_s3_by_digest(project: Project, package: Path, objects: Objects) -> None:
    for key, artifact in project.artifacts.items():
        if key in {("iris", "v1"), ("iris", "v2"), ("digits", "v1")}:
            objects.rows[f"/ours/pooled/{artifact.sha256}/{artifact.path.name}"] = artifact.path.read_bytes()
    fields = json.loads((package / "pool.json").read_bytes())
    pool = load_pool(package, fields, {**objects.environ, "TURNOUT_MODELS": "s3://ours/pooled"})
    assert [value_of(call(pool, event("iris", version))) for version in ("v1", "v2", "v1")] == [1.5, 202.5, 1.5]
    assert len(objects.ranges) == 2


def test_artifact_in_s3_is_read_from_its_own_place(project: Project, package: Path, objects: Objects) -> None:
    artifact = project.artifacts["iris", "v1"]
    objects.rows["/theirs/iris/iris-v1.onnx"] = artifact.path.read_bytes()
    fields = json.loads((package / "pool.json").read_bytes())
    fields["versions"][0]["location"] = "s3://theirs/iris"
    assert value_of(call(load_pool(package, fields, objects.environ), event("iris", "v1"))) == 1.5
    with pytest.raises(ModelError, match="TURNOUT_MODELS does not say where"):
        call(load_pool(package, fields, objects.environ), event("digits", "v1"))
