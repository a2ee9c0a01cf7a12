"""The router's handler with a stage's table in S3, as Lambda starts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router_lambda.entry import load_handler
from router_lambda.tables import CHOICES
from tests.builders.general_router import small_catalogue
from tests.builders.invoke_api import InvokeApi, invoke_api, replying
from tests.builders.object_server import Objects, serve_objects
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE, make_table
from turnout.protocol.routing.route_table import ModelRoute, RouteTable, VersionRoute

ANSWER = {"statusCode": 200, "body": "{}"}
BUCKET = "shop-prod-123456789012-eu-west-1"


@pytest.fixture
def objects() -> Iterator[Objects]:
    with serve_objects() as served:
        yield served


def put(objects: Objects, choices: dict[str, str]) -> str:
    name, text = make_table("prod", choices)
    objects.rows[f"/{BUCKET}/choices/{name}.json"] = text.encode()
    return name


def environ(invoke: str, objects: Objects) -> dict[str, str]:
    return {
        **objects.environ,
        "AWS_LAMBDA_FUNCTION_NAME": "shop-prod_router",
        "AWS_ENDPOINT_URL_LAMBDA": invoke,
        CHOICES: f"s3://{BUCKET}/choices",
    }


def event(table: str, resource: str = "/models/{model}/inference", model: str = "iris") -> dict[str, Any]:
    path = resource.format(model=model)
    return {
        "httpMethod": "POST" if resource.endswith("inference") else "GET",
        "resource": resource,
        "path": path,
        "pathParameters": {"model": model} if "{model}" in resource else None,
        "headers": {"Host": "a.execute-api.eu-west-1.amazonaws.com"},
        "stageVariables": {TABLE_VARIABLE: table, "alias": "live", "forest": "router", "forestRoute": "v1.100"},
        "requestContext": {"stage": "prod", "path": f"/prod{path}", "domainName": "a"},
        "body": "{}",
    }


def called(api: InvokeApi) -> list[str]:
    return [seen.path.split("/")[3].partition("%")[0] for seen in api.seen]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "catalogue.json").write_text(json.dumps(small_catalogue().to_json()))
    return tmp_path


def test_each_share_is_answered_by_the_versions_of_its_table(objects: Objects, folder: Path) -> None:
    many = {f"m{number}": "v1" for number in range(10_000)}
    baseline, canary = (put(objects, {**many, "iris": version}) for version in ("v1", "v2"))
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000)
    with invoke_api(replying(ANSWER, connection="close")) as api:
        handle = load_handler(folder, environ(api.url, objects))
        for table in (baseline, canary, baseline):
            assert handle(event(table), context)["statusCode"] == 200
        assert called(api) == ["shop-prod_iris_v1", "shop-prod_iris_v2", "shop-prod_iris_v1"]
        assert objects.ranges == ["", ""]  # each table is read once
        # A model with a router has its own variable.
        assert handle(event(canary, model="forest"), context)["statusCode"] == 200
        assert called(api)[-1] == "shop-prod_forest_router"
        page = json.loads(handle(event(canary, "/models/{model}"), context)["body"])
        assert page["serves"] == [{"version": "v2", "percent": 100.0}]

        # Tables that were read answer also when the bucket does not; a new environment cannot start with them.
        del objects.rows[f"/{BUCKET}/choices/{canary}.json"]
        assert handle(event(canary), context)["statusCode"] == 200
        fresh = load_handler(folder, environ(api.url, objects))
        calls = len(api.seen)
        for resource in ("/models/{model}/inference", "/models", "/models/{model}", "/health/ready"):
            answer = fresh(event(canary, resource), context)
            body = json.loads(answer["body"])
            assert (answer["statusCode"], body["code"]) == (503, "CHOICES_UNREADABLE")
            assert "S3 answered 404" in body["error"]
        assert len(api.seen) == calls
        assert fresh(event(baseline), context)["statusCode"] == 200
        # A version in the path needs no table.
        named = {**event(canary, "/models/{model}/{version}/inference".replace("{version}", "v2"))}
        named |= {
            "resource": "/models/{model}/{version}/inference",
            "pathParameters": {"model": "iris", "version": "v2"},
        }
        assert fresh(named, context)["statusCode"] == 200


def test_changed_object_and_missing_place_are_503(objects: Objects, folder: Path) -> None:
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000)
    name = put(objects, {"iris": "v1", "other": "v1"})
    objects.rows[f"/{BUCKET}/choices/{name}.json"] = b'{"iris":"v2"}'
    nowhere = {key: value for key, value in environ("", objects).items() if key != CHOICES}
    with invoke_api(replying(ANSWER, connection="close")) as api:
        for variables in (environ(api.url, objects), nowhere | {"AWS_ENDPOINT_URL_LAMBDA": api.url}):
            answer = load_handler(folder, variables)(event(name), context)
            assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "CHOICES_UNREADABLE")
        assert api.seen == []


def test_model_router_reads_the_table_as_well(objects: Objects, tmp_path: Path) -> None:
    routes = RouteTable("iris", "", {"iris": ModelRoute("iris", {"v1": VersionRoute(15), "v2": VersionRoute(15)})})
    (tmp_path / "routes.json").write_text(json.dumps(routes.to_json()))
    table = put(objects, {"iris": "v2"})
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000)
    with invoke_api(replying(ANSWER, connection="close")) as api:
        variables = environ(api.url, objects) | {"AWS_LAMBDA_FUNCTION_NAME": "shop-prod_iris_router"}
        assert load_handler(tmp_path, variables)(event(table), context)["statusCode"] == 200
        assert called(api) == ["shop-prod_iris_v2"]
        answer = load_handler(tmp_path, variables)(event(f"prod/{'0' * 64}"), context)
        assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "CHOICES_UNREADABLE")


def test_table_is_read_from_a_folder_of_this_machine(objects: Objects, folder: Path) -> None:
    name, text = make_table("prod", {"iris": "v2"})
    tables = folder / "choices"
    (tables / "prod").mkdir(parents=True)
    (tables / f"{name}.json").write_text(text)
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000)
    with invoke_api(replying(ANSWER, connection="close")) as api:
        handle = load_handler(folder, environ(api.url, objects) | {CHOICES: str(tables)})
        assert handle(event(name), context)["statusCode"] == 200
        assert called(api) == ["shop-prod_iris_v2"]
    assert objects.ranges == []
