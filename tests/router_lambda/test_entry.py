"""The entry point that Lambda imports; tests/packaging/test_routers.py runs the zips that contain it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from router_lambda.entry import MARGIN_S, load_handler
from router_lambda.invoke import find_endpoint
from tests.builders.credentials_server import serve_credentials
from tests.builders.invoke_api import Reply, Seen, invoke_api, replying
from turnout.protocol.routing.route_table import ModelRoute, RouteTable, VersionRoute

ANSWER = {"statusCode": 200, "body": "{}"}
EVENT = {"stageVariables": {"bertBase": "router", "bertBaseRoute": "v1.100", "alias": "next"}, "headers": {}}


def context(left_ms: int = 20_000) -> Any:
    return SimpleNamespace(get_remaining_time_in_millis=lambda: left_ms)


def environ(url: str = "") -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "eu-west-1",
        "AWS_LAMBDA_FUNCTION_NAME": "shop-prod_bert-base_router",
        "AWS_ENDPOINT_URL_LAMBDA": url,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    route = ModelRoute("bertBase", {"v1": VersionRoute(15)})
    table = RouteTable("bert-base", "", {"bert-base": route})
    (tmp_path / "routes.json").write_text(json.dumps(table.to_json()))
    return tmp_path


def test_the_prefix_is_that_of_the_router_name(folder: Path) -> None:
    with invoke_api(replying(ANSWER, connection="close")) as api:
        answer = load_handler(folder, environ(api.url))(EVENT, context())
    assert answer == {**ANSWER, "headers": {"x-turnout-route": "weight"}}
    assert api.seen[0].path == "/2015-03-31/functions/shop-prod_bert-base_v1%3Anext/invocations"


def test_a_router_with_snap_start_signs_with_the_served_credentials(folder: Path) -> None:
    with invoke_api(replying(ANSWER, connection="close")) as api, serve_credentials() as credentials:
        variables = {name: value for name, value in environ(api.url).items() if "ACCESS_KEY" not in name}
        handle = load_handler(folder, variables | credentials.environ)
        assert credentials.requests == 0  # a snapshot contains no credentials that could expire
        assert [handle(EVENT, context())["statusCode"] for _ in range(2)] == [200, 200]
        assert credentials.requests == 1
    assert api.seen[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=local/")
    assert api.seen[0].headers["x-amz-security-token"] == "token"


def test_a_router_without_credentials_answers_502_and_calls_nothing(folder: Path) -> None:
    with invoke_api(replying(ANSWER)) as api:
        variables = {name: value for name, value in environ(api.url).items() if "ACCESS_KEY" not in name}
        answer = load_handler(folder, variables)(EVENT, context())
    assert (answer["statusCode"], api.seen) == (502, [])


def test_a_call_ends_before_lambda_ends_the_router(folder: Path) -> None:
    def late(_seen: Seen) -> Reply:
        return pytest.fail("called without time left")

    with invoke_api(late) as api:
        answer = load_handler(folder, environ(api.url))(EVENT, context(int(MARGIN_S * 1000)))
    assert (answer["statusCode"], api.seen) == (504, [])


def test_a_hanging_version_leaves_time_for_its_fallback(folder: Path) -> None:
    route = ModelRoute("bertBase", {"v1": VersionRoute(15), "v2": VersionRoute(15)}, fallback="v2")
    (folder / "routes.json").write_text(json.dumps(RouteTable("bert-base", "", {"bert-base": route}).to_json()))
    gate = threading.Event()

    def hang_or_answer(seen: Seen) -> Reply:
        if "_v1%3A" in seen.path:
            gate.wait(30)
            return Reply(hangs_up=True)
        return replying(ANSWER, connection="close")(seen)

    with invoke_api(hang_or_answer) as api:
        answer = load_handler(folder, environ(api.url))(EVENT, context(int(MARGIN_S * 1000) + 500))
        gate.set()
    assert answer == {
        **ANSWER,
        "headers": {"x-turnout-route": "fallback", "x-turnout-fallback-from": "v1"},
    }


REGIONS = (
    "eu-west-1", "ap-southeast-2", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "us-isof-south-1",
    "eu-isoe-west-1", "eusc-de-east-1",
)  # fmt: skip
"""One region of each partition, and one more."""


@pytest.mark.parametrize("region", REGIONS)
def test_the_endpoint_equals_that_of_botocore_in_every_partition(region: str) -> None:
    client = boto3.client("lambda", region_name=region, aws_access_key_id="a", aws_secret_access_key="b")
    assert find_endpoint(region) == client.meta.endpoint_url


def test_without_a_configured_endpoint_that_of_the_region_is_used(folder: Path) -> None:
    assert callable(load_handler(folder, environ()))
