"""The project's own host name, answered by the `Host` header as a custom domain answers on AWS."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders.documents import FakeFunctions, document, operation, respond, stage
from turnout.gateway.api.gateway import Gateway, RestApi
from turnout.http_server.messages import Request, Response
from turnout.manifest.access import Domain

NAME = "ml.example.com"
PATHS = {"/models/iris/inference": {"post": operation()}, "/models/{model}": {"get": operation()}}


def make_gateway(domain: Domain | None, functions: FakeFunctions) -> Gateway:
    def service(request: Request) -> Response:
        return Response(200, (), b"the control plane")

    api = RestApi("api", document(PATHS), (stage("dev", api="api"), stage("prod", api="api")))
    return Gateway([api], functions, default_stage="dev", services={"restapis": service}, domain=domain)


def call(domain: Domain | None, path: str, host: str = NAME, method: str = "POST") -> tuple[int, dict[str, Any]]:
    """Return the status, and the event of the function."""
    functions = FakeFunctions()
    request = Request(method, path, "", [("Host", host)], b"")
    gateway = make_gateway(domain, functions)
    response = respond(gateway, request)
    admitted = gateway.admit(Request(method, path, "", [("Host", host)], b""))
    assert admitted is None or admitted.status == response.status
    if response.status != 200:
        assert json.loads(response.body)["message"] in {"Forbidden", "Missing Authentication Token"}
    return response.status, dict(functions.events[0]) if functions.events else {}


@pytest.mark.parametrize("base_path", ["", "a", "team/a"])
@pytest.mark.parametrize("host", [NAME, f"{NAME}:8080", NAME.upper()])
def test_domain_leads_to_each_stage_and_to_the_default_stage(base_path: str, host: str) -> None:
    before = f"/{base_path}" if base_path else ""
    for path, wanted in (
        (f"{before}/dev/models/iris/inference", "dev"),
        (f"{before}/prod/models/iris/inference", "prod"),
        (f"{before}/models/iris/inference", "dev"),
    ):
        status, event = call(Domain(NAME, base_path=base_path), path, host)
        assert (status, event["requestContext"]["stage"]) == (200, wanted)
        assert event["path"] == path, "behind a domain, the path has the base path"
        assert event["requestContext"]["path"] == path
        assert event["resource"] == "/models/iris/inference"
        assert (event["requestContext"]["domainPrefix"], event["pathParameters"]) == (
            NAME.split(".", maxsplit=1)[0] if host != NAME.upper() else "ML",
            None,
        )


def test_parameters_are_read_below_the_base_path() -> None:
    _, event = call(Domain(NAME, base_path="a"), "/a/prod/models/digits", method="GET")
    assert event["pathParameters"] == {"model": "digits"}


@pytest.mark.parametrize(
    "path",
    [
        "/prod/models/iris/inference",
        "/models/iris/inference",
        "/",
        "/ab/prod/models/iris/inference",
        "/a",
        "/a/",
        "/A/prod/models/iris/inference",
    ],
)
def test_paths_outside_the_base_path_are_not_found(path: str) -> None:
    assert call(Domain(NAME, base_path="a"), path)[0] == 403


def test_other_hosts_are_answered_as_without_a_domain() -> None:
    for host in ("127.0.0.1:8080", "other.example.com", f"x.{NAME}"):
        status, event = call(Domain(NAME, base_path="a"), "/prod/models/iris/inference", host)
        assert (status, event["path"]) == (200, "/models/iris/inference")
        assert call(Domain(NAME, base_path="a"), "/a/prod/models/iris/inference", host)[0] == 403


def test_services_are_not_available_on_the_domain() -> None:
    assert call(Domain(NAME), "/restapis")[0] == 403
    assert call(Domain(NAME), "/restapis", "127.0.0.1")[0] == 200
