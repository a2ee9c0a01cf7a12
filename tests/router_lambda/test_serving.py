"""Where a stage's paths start for its callers, from recorded events of API Gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from router_lambda.general.serving import ServedStage
from tests.builders.general_router import ask
from turnout.protocol.aws.paths import find_base


@dataclass(frozen=True)
class Way:
    """One way to reach stage `prod`, with the two paths of the event for the resource `/x`."""

    host: str
    path: str
    context_path: str
    base: str


API = "abc123.execute-api.eu-west-1.amazonaws.com"
DOMAIN = "api.example.com"

# Source: localstack/localstack#12296 (recorded on AWS), CodeGenieApp/serverless-express#216. The last two are our own.
WAYS = {
    "direct": Way(API, "/x", "/prod/x", "/prod"),
    "domain, mapping with stage": Way(DOMAIN, "/x", "/x", ""),
    "domain, base path and stage": Way(DOMAIN, "/v1/x", "/v1/x", "/v1"),
    "domain, base path of several levels and stage": Way(DOMAIN, "/a/b/x", "/a/b/x", "/a/b"),
    "domain, mapping without stage": Way(DOMAIN, "/prod/x", "/prod/x", "/prod"),
    "domain, base path without stage": Way(DOMAIN, "/v1/prod/x", "/v1/prod/x", "/v1/prod"),
    "domain, base path like a resource": Way(DOMAIN, "/models/x", "/models/x", "/models"),
    "local gateway, with stage": Way("127.0.0.1:8080", "/x", "/prod/x", "/prod"),
    "local gateway, default stage": Way("127.0.0.1:8080", "/x", "/x", ""),
}

RESOURCES = [
    ("/models", {}),
    ("/models/{model}", {"model": "iris"}),
    ("/models/{model}/{version}", {"model": "iris", "version": "v2"}),
    ("/openapi.json", {}),
]


def event_of(way: Way, resource: str, parameters: dict[str, str], slash: str = "") -> dict[str, Any]:
    rendered = resource.format_map(parameters) + slash
    whole = way.context_path.removesuffix("/x") + rendered
    return {
        "resource": resource,
        "path": way.path.removesuffix("/x") + rendered,
        "httpMethod": "GET",
        "headers": {"Host": way.host, "X-Forwarded-Proto": "https"},
        "pathParameters": parameters or None,
        "stageVariables": {"iris": "v2", "alias": "live"},
        "requestContext": {"stage": "prod", "path": whole, "domainName": way.host},
        "body": None,
        "isBase64Encoded": False,
    }  # fmt: skip


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("resource", "parameters"), RESOURCES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_base_is_the_path_of_the_caller_without_the_resource(
    way: Way, resource: str, parameters: dict[str, str], slash: str
) -> None:
    assert ServedStage.of(event_of(way, resource, parameters, slash)).base == way.base


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_links_and_servers_use_the_address_of_the_caller(way: Way) -> None:
    pages = [ask(event_of(way, resource, parameters)).json for resource, parameters in RESOURCES]
    listed, model, version, document = pages
    assert {entry["endpoint"] for entry in listed["models"]} >= {f"{way.base}/models/iris/inference"}
    assert model["endpoint"] == f"{way.base}/models/iris/inference"
    assert version["endpoint"] == f"{way.base}/models/iris/v2/inference"
    assert document["servers"] == [{"url": f"https://{way.host}{way.base}"}]


@pytest.mark.parametrize(
    ("path", "resource", "parameters", "base"),
    [
        ("/prod/v2/models/iris/ready", "/v2/{proxy+}", {"proxy": "models/iris/ready"}, "/prod"),
        ("/v2/v2/models/iris", "/v2/{proxy+}", {"proxy": "models/iris"}, "/v2"),
        ("/prod/models/a%20b", "/models/{model}", {"model": "a b"}, "/prod"),
        ("/prod/models/a%2Fb", "/models/{model}", {"model": "a/b"}, "/prod"),
        ("/prod/models/%69ris", "/models/{model}", {"model": "iris"}, "/prod"),
        ("/models/models", "/models/{model}", {"model": "models"}, ""),
        ("/prod/models/models/models", "/models/{model}/{version}", {"model": "models", "version": "models"}, "/prod"),
        ("/elsewhere", "/models", {}, None),
        ("/elsewhere/x", "/models/{model}", {"model": "iris"}, None),
        ("/v2/%6Dodels", "/v2/{proxy+}", {"proxy": "models"}, None),
    ],
)
def test_base_of_escaped_or_misleading_paths(
    path: str, resource: str, parameters: dict[str, str], base: str | None
) -> None:
    assert find_base(path, resource, parameters) == base


def test_event_without_a_host_uses_the_domain_of_its_context() -> None:
    event = {**event_of(WAYS["direct"], "/openapi.json", {}), "headers": None}
    assert ServedStage.of(event).origin == f"https://{API}"
