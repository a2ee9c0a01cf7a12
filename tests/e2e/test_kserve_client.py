"""KServe's REST client from PyPI against a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.builders.open_inference_project import write_open_inference_project
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S
from turnout.protocol.tensors.datatypes import DATATYPES

T = TypeVar("T")

KNOWN = [datatype for datatype in DATATYPES if datatype != "BF16"]
"""The datatypes that the client supports."""

DTYPES = {"BOOL": np.bool_, "BYTES": np.object_}
SHAPES = [(0,), (3,), (2, 3), (2, 0, 4), ()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(write_open_inference_project(tmp_path_factory.mktemp("kserve")), "--workers", "1") as running:
        yield running


def run(call: Callable[[InferenceRESTClient], Awaitable[T]]) -> T:
    """Make one call with a new client."""

    async def connected() -> T:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=PATIENCE_S)) as client:
            return await call(client)

    return asyncio.run(connected())


def url(server: RunningServer, stage: str = "") -> str:
    return f"http://127.0.0.1:{server.port}{stage}"


def dtype_of(datatype: str) -> Any:
    return DTYPES.get(datatype) or np.dtype(datatype.lower().replace("fp", "float"))


def sample(datatype: str, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    if datatype == "BYTES":
        return np.array([b"plain", "é😀".encode(), b'"'] * (count // 3 + 1), np.object_)[:count].reshape(shape)
    return (np.arange(count) % 2 if datatype == "BOOL" else np.arange(count)).astype(dtype_of(datatype)).reshape(shape)


def tensor(name: str, datatype: str, values: Any, *, binary: bool) -> InferInput:
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def pair(*, binary: bool = True, **fields: Any) -> InferRequest:
    inputs = [tensor("a", "FP32", np.array([1, 2, 3], "f4"), binary=binary)]
    inputs.append(tensor("b", "FP32", np.array([10, 20, 30], "f4"), binary=binary))
    return InferRequest("pair", inputs, **fields)


def infer(server: RunningServer, model: str, request: Any, **options: Any) -> Any:
    return run(lambda client: client.infer(url(server), request, model_name=model, **options))


def test_health(server: RunningServer) -> None:
    at = url(server)
    assert run(lambda client: client.is_server_live(at)) is True
    assert run(lambda client: client.is_server_ready(at)) is True
    assert run(lambda client: client.is_model_ready(at, "pair")) is True
    assert run(lambda client: client.is_model_ready(at, "nope")) is False


FORMS = [
    (datatype, binary_in, binary_out)
    for datatype in KNOWN
    for binary_in in (True, False)
    for binary_out in (True, False)
    if datatype != "FP16" or binary_in  # the client sends it only in binary
]


@pytest.mark.parametrize(("datatype", "binary_in", "binary_out"), FORMS)
def test_every_datatype_and_shape_is_echoed(
    server: RunningServer, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    async def check(client: InferenceRESTClient) -> None:
        for shape in SHAPES:
            values = sample(datatype, shape)
            request = InferRequest(
                datatype.lower(),
                [tensor("x", datatype, values, binary=binary_in)],
                parameters={"binary_data_output": binary_out},
            )
            response = await client.infer(url(server), request, model_name=datatype.lower())
            [output] = response.outputs
            assert (output.name, output.datatype, output.shape) == ("y", datatype, list(shape))
            back = output.as_numpy()
            if datatype == "BYTES":  # the client reads these as text
                back = np.array([text.encode() for text in back.reshape(-1)], np.object_).reshape(shape)
            np.testing.assert_array_equal(back, values)

    run(check)


@pytest.mark.parametrize("binary", [True, False])
def test_ids_and_versions_are_returned(server: RunningServer, binary: bool) -> None:
    headers: dict[str, str] = {}
    response = infer(server, "pair", pair(binary=binary, request_id="of mine"), response_headers=headers)
    assert (response.id, response.model_name, headers["x-turnout-version"]) == ("of mine", "pair", "v2")


def test_only_requested_outputs_are_returned_each_in_its_form(server: RunningServer) -> None:
    wanted = [RequestedOutput("difference", {"binary_data": True}), RequestedOutput("sum")]
    outputs = infer(server, "pair", pair(request_outputs=wanted)).outputs
    assert [(output.name, output.as_numpy().tolist()) for output in outputs] == [
        ("difference", [-9, -18, -27]),
        ("sum", [11, 22, 33]),
    ]
    assert len(infer(server, "pair", pair(request_outputs=wanted[:1])).outputs) == 1


def test_plain_dict_is_sent_as_json(server: RunningServer) -> None:
    rows = [{"name": name, "shape": [1], "datatype": "FP32", "data": [1]} for name in "ab"]
    assert infer(server, "pair", {"inputs": rows}).outputs[0].data == [2.0]


def test_stage_and_key(server: RunningServer) -> None:
    key = {"x-api-key": server.api_key("keyed")}
    at = url(server, "/keyed")
    response = run(lambda client: client.infer(at, pair(), model_name="pair", headers=dict(key)))
    assert response.outputs[0].as_numpy().tolist() == [11, 22, 33]
    with pytest.raises(httpx.HTTPStatusError, match="Forbidden"):
        run(lambda client: client.infer(at, pair(), model_name="pair"))


@pytest.mark.parametrize(
    ("model", "datatype", "said"),
    [
        ("pair", "INT64", "input `a`: expected datatype FP32, got INT64, '400 Bad Request'"),
        ("nope", "FP32", "unknown model `nope`; GET /models lists them, '404 Not Found'"),
        ("failing", "FP32", "failing v1: preprocess failed; see the function's log, '500 Internal Server Error'"),
    ],
)
def test_errors_raise_the_exception_of_the_client_with_our_message(
    server: RunningServer, model: str, datatype: str, said: str
) -> None:
    values = np.zeros(3, dtype_of(datatype))
    request = InferRequest(model, [tensor(name, datatype, values, binary=True) for name in "ab"])
    with pytest.raises(httpx.HTTPStatusError) as caught:
        infer(server, model, request)
    assert str(caught.value).startswith(said)
