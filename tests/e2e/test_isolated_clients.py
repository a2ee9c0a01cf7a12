"""The Open Inference Protocol's clients against the zips that AWS gets: the general router, a router and a graph."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.builders.async_project import await_end, fetch
from tests.builders.isolated_project import share_packages
from tests.builders.open_inference_project import write_open_inference_project
from tests.builders.otlp_receiver import CALLER, OtlpReceiver, otlp_receiver, tree_of
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = write_open_inference_project(tmp_path_factory.mktemp("isolated-clients"))
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace("stages:\n  dev:\n", "stages:\n  dev:\n    async: {}\n"))
    share_packages(project, tmp_path_factory)
    with running_server(project, "--workers", "1", "--isolated", "--otlp-endpoint", receiver.url) as running:
        yield running


@pytest.mark.parametrize(
    ("model", "output", "expected"),
    [("pair", "difference", [-9, -18, -27]), ("routed", "sum", [11, 22, 33]), ("chain", "y", [11, 22, 33])],
)
def test_tritonclient_gets_binary_answers(
    server: RunningServer, model: str, output: str, expected: list[float]
) -> None:
    values = {"a": np.array([1, 2, 3], "f4"), "b": np.array([10, 20, 30], "f4")}
    tensors = [InferInput(name, [3], "FP32").set_data_from_numpy(value) for name, value in values.items()]
    with InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=PATIENCE_S) as client:
        assert client.is_model_ready(model)
        answer = client.infer(model, tensors)
        assert "binary_data_size" in answer.get_output(output)["parameters"]
        assert answer.as_numpy(output).tolist() == expected
        with pytest.raises(InferenceServerException, match="`b` is missing"):
            client.infer(model, tensors[:1])


def test_kserve_client_gets_json_answers(server: RunningServer) -> None:
    # Imported late: it takes seconds, which every test worker would spend during collection.
    from kserve import InferenceRESTClient, InferRequest, RESTConfig
    from kserve import InferInput as KServeInput

    tensors = [KServeInput(name, [2], "FP32") for name in ("a", "b")]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.array([1, 2], "f4"), binary_data=False)

    async def ask() -> list[float]:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=PATIENCE_S)) as client:
            url = f"http://127.0.0.1:{server.port}"
            assert await client.is_server_live(url)
            request = InferRequest(model_name="routed", infer_inputs=tensors)
            answer = await client.infer(url, request, model_name="routed")
            result: list[float] = answer.outputs[0].data
            return result

    assert asyncio.run(ask()) == [2, 4]


@pytest.mark.parametrize("model", ["pair", "routed", "chain"])
def test_asynchronous_request_runs_and_is_answered(server: RunningServer, model: str) -> None:
    body = {"inputs": {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 30.0]}}
    path = f"/models/{model}/inference"
    at_once = server.post(path, body)
    accepted = server.post(path, body, prefer="respond-async")
    assert (at_once.status, accepted.status) == (200, 202)
    described = await_end(server, accepted.headers["location"])
    assert (described["state"], described["attempts"]) == ("done", 1)
    assert fetch(server, described["answer"]["address"]).json() == at_once.json()


def test_spans_cover_the_processes_of_routers_and_versions(server: RunningServer, receiver: OtlpReceiver) -> None:
    trace = secrets.token_hex(16)
    body = {"inputs": {"a": [1.0, 2.0], "b": [3.0, 4.0]}}
    answer = server.post("/models/routed/inference", body, traceparent=f"00-{trace}-{CALLER}-01")
    assert answer.status == 200
    spans = receiver.trace(trace, 4)
    route, version = "POST /models/routed/inference", f"routed {answer.headers['x-turnout-version']}"
    assert tree_of(spans) == {
        route: "caller",
        "routed router": route,
        version: "routed router",
        "session.run": version,
    }
    assert b"turnout" not in answer.body
