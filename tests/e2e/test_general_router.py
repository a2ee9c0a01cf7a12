"""The catalogue, health, the document and `/v2` of a running server."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from tests.builders.open_inference_project import write_open_inference_project
from tests.builders.running_server import RunningServer, running_server

TWO = {
    "inputs": [
        {"name": "a", "shape": [1], "datatype": "FP32", "data": [1]},
        {"name": "b", "shape": [1], "datatype": "FP32", "data": [2]},
    ]
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(write_open_inference_project(tmp_path_factory.mktemp("general")), "--workers", "1") as running:
        yield running


@pytest.mark.parametrize("base", ["", "/dev"])
def test_endpoints_in_the_catalogue_can_be_called(server: RunningServer, base: str) -> None:
    listed = server.request("GET", f"{base}/models").json()
    endpoints = {model["name"]: model["endpoint"] for model in listed["models"]}
    assert endpoints["pair"] == f"{base}/models/pair/inference"
    assert server.post(endpoints["pair"], TWO).json()["model_version"] == "v2"
    page = server.request("GET", f"{base}/models/pair").json()
    for version in page["versions"]:
        assert server.post(version["endpoint"], TWO).json()["model_version"] == version["name"]


def test_shares_of_a_routed_model_are_reported(server: RunningServer) -> None:
    page = server.request("GET", "/models/routed").json()
    assert page["serves"] == [{"version": "v1", "percent": 50.0}, {"version": "v2", "percent": 50.0}]


def test_health_needs_no_key_and_everything_else_does(server: RunningServer) -> None:
    for path, status in (
        ("health/live", 200),
        ("health/ready", 200),
        ("models", 403),
        ("openapi.json", 403),
        ("v2", 403),
        ("v2/health/live", 200),
        ("v2/health/ready", 200),
        ("v2/models/pair", 403),
    ):
        assert server.request("GET", f"/keyed/{path}").status == status, path
    assert server.request("GET", "/keyed/v2/health/ready").json() == {"ready": True}
    assert server.request("GET", "/keyed/v2/health/live").json() == {"live": True}


def test_document_is_valid_and_contains_the_address_of_the_caller(server: RunningServer) -> None:
    document = server.request("GET", "/keyed/openapi.json", headers={"x-api-key": server.api_key("keyed")}).json()
    OpenAPIV30SpecValidator(document).validate()  # type: ignore[no-untyped-call]
    assert document["servers"] == [{"url": f"http://127.0.0.1:{server.port}/keyed"}]
    assert b"000000000000" not in orjson.dumps(document)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/models/p%61ir", 200, None),
        ("/models/pa%2Fir", 404, "UNKNOWN_MODEL"),
        ("/models/%C3%A9", 404, "UNKNOWN_MODEL"),
        ("/models/..", 404, "UNKNOWN_MODEL"),
        ("/models/pair/v9", 404, "UNKNOWN_VERSION"),
        ("/models/pair/inference", 405, "METHOD_NOT_ALLOWED"),
        ("/v2/models/p%61ir", 200, None),
        ("/v2/models/pair%2Fversions%2Fv2", 404, "UNKNOWN_MODEL"),
        ("/v2/models/pair/infer", 405, "METHOD_NOT_ALLOWED"),
        ("/v2//models", 404, "UNKNOWN_PATH"),
        ("/v2/", 200, None),
    ],
)
def test_paths_with_escapes_dots_and_slashes(server: RunningServer, path: str, status: int, code: str | None) -> None:
    answer = server.request("GET", path)
    assert (answer.status, answer.json().get("code")) == (status, code)


@pytest.mark.parametrize(
    "path",
    [
        *("/models", "/models/pair", "/models/pair/v1", "/health/live", "/health/ready", "/openapi.json", "/v2"),
        *("/v2/health/live", "/v2/health/ready", "/v2/models/pair", "/v2/models/pair/ready"),
        *("/models/none", "/v2/models/pair/infer", "/turnout/metrics?stage=dev"),
    ],
)
def test_head_answers_like_get_without_the_body(server: RunningServer, path: str) -> None:
    get, head = (server.request(method, path) for method in ("GET", "HEAD"))
    assert head.status == get.status
    assert head.body == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH"])
def test_other_methods_of_the_protocol_are_405(server: RunningServer, method: str) -> None:
    for path, allow in (("/v2", "GET"), ("/v2/health/live", "GET"), ("/v2/models/pair/infer", "POST")):
        answer = server.request(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
        assert answer.body


INFER = {
    "/v2/models/pair/infer": "turnout-local_pair_v2",
    "/v2/models/pair/versions/1/infer": "turnout-local_pair_1",
    "/v2/models/routed/infer": "turnout-local_routed_router",
}


@pytest.mark.parametrize(("choice", "status"), [("off", 403), ("direct", 200)])
def test_open_inference_protocol_serves_the_models_of_models_yaml(
    tmp_path_factory: pytest.TempPathFactory, choice: str, status: int
) -> None:
    project = write_open_inference_project(tmp_path_factory.mktemp(choice))
    manifest = project / "models.yaml"
    manifest.write_text(f'open_inference: "{choice}"\n{manifest.read_text()}')
    with running_server(project, "--workers", "1") as running, running.client() as client:
        assert client.request("GET", "/v2").status == status
        assert {client.post(path, TWO).status for path in INFER} == {status}
        log = running.await_log(lambda text: text.count("/infer ") == len(INFER))
    for path, function in INFER.items():
        assert (f"POST {path} 200" in log and f"function={function}:live" in log) == (choice == "direct")
