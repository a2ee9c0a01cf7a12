"""NVIDIA's own HTTP client from PyPI against a running server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.builders.open_inference_project import write_open_inference_project
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S
from turnout.protocol.tensors.datatypes import DATATYPES

SHAPES = [(), (0,), (3,), (2, 3), (2, 0, 4), (1, 1, 1)]

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "BF16": ml_dtypes.bfloat16,
    "BYTES": np.object_,
    **{f"UINT{bits}": f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"f{bits // 8}" for bits in (16, 32, 64)},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(write_open_inference_project(tmp_path_factory.mktemp("triton")), "--workers", "1") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=PATIENCE_S) as made:
        yield made


def sample(datatype: str, shape: tuple[int, ...]) -> Any:
    """Values that would reveal a wrong width, sign or order."""
    count = int(np.prod(shape))
    if datatype == "BYTES":
        texts = [b"plain", "é😀".encode(), b"", b'"quoted"\\'] * (count // 4 + 1)
        return np.array(texts[:count], np.object_).reshape(shape)
    if datatype == "BOOL":
        return (np.arange(count) % 2 == 0).reshape(shape)
    if DATATYPES[datatype].kind == "float":
        return (np.arange(count) * -1.25 + 0.5).astype(DTYPES[datatype]).reshape(shape)
    info = np.iinfo(DTYPES[datatype])
    return np.array([info.min, info.max, 1, 77] * (count // 4 + 1), DTYPES[datatype])[:count].reshape(shape)


def tensor(name: str, values: Any, *, binary: bool = True) -> InferInput:
    made = InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return made.set_data_from_numpy(values, binary_data=binary)


def pair(*, binary: bool = True) -> list[InferInput]:
    a, b = np.array([1, 2, 3], "f4"), np.array([10, 20, 30], "f4")
    return [tensor("a", a, binary=binary), tensor("b", b, binary=binary)]


def test_health(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair")
    assert client.is_model_ready("pair", "1")
    assert client.is_model_ready("routed")
    assert not client.is_model_ready("nope")
    assert not client.is_model_ready("pair", "3")


def test_server_metadata(client: InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "turnout"
    assert metadata["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("version", ["", "1", "v2"])
def test_model_metadata(client: InferenceServerClient, version: str) -> None:
    assert client.get_model_metadata("pair", version) == {
        "name": "pair",
        "versions": ["1", "v2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in ("a", "b")],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in ("sum", "difference")],
    }


FORMS = [
    (datatype, binary_in, binary_out)
    for datatype in DATATYPES
    for binary_in in (True, False)
    for binary_out in (True, False)
    if datatype != "BF16" or (binary_in and binary_out)  # the client sends and reads it only in binary
]


@pytest.mark.parametrize(("datatype", "binary_in", "binary_out"), FORMS)
def test_every_datatype_and_shape_is_echoed(
    client: InferenceServerClient, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    for shape in SHAPES:
        values = sample(datatype, shape)
        wanted = [InferRequestedOutput("y", binary_data=binary_out)]
        result = client.infer(datatype.lower(), [tensor("x", values, binary=binary_in)], outputs=wanted)
        output = result.get_output("y")
        assert (output["datatype"], output["shape"]) == (datatype, list(shape))
        back = result.as_numpy("y")
        if datatype == "BYTES" and not binary_out:
            back = np.array([text.encode() for text in back.reshape(-1)], np.object_).reshape(shape)
        assert back.shape == shape
        np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(("version", "answered"), [("", "v2"), ("1", "1"), ("v2", "v2")])
def test_versions_and_ids_are_returned(client: InferenceServerClient, version: str, answered: str) -> None:
    result = client.infer("pair", pair(), model_version=version, request_id="of mine")
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("of mine", "pair", answered)
    np.testing.assert_array_equal(result.as_numpy("sum"), [11, 22, 33])


def test_routed_model_answers(client: InferenceServerClient) -> None:
    versions = {client.infer("routed", pair()).get_response()["model_version"] for _ in range(40)}
    assert versions == {"v1", "v2"}


def test_graph_is_a_model_like_any_other(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("chain")
    assert (metadata["platform"], metadata["versions"]) == ("ensemble", [])
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["a", "b"]
    assert client.is_model_ready("chain")
    for binary in (True, False):
        result = client.infer("chain", pair(binary=binary), outputs=[InferRequestedOutput("y", binary_data=binary)])
        np.testing.assert_array_equal(result.as_numpy("y"), [11, 22, 33])


def test_input_forms_and_output_forms_may_be_mixed(client: InferenceServerClient) -> None:
    inputs = [pair(binary=True)[0], pair(binary=False)[1]]
    outputs = [InferRequestedOutput("difference", binary_data=True), InferRequestedOutput("sum", binary_data=False)]
    result = client.infer("pair", inputs, outputs=outputs)
    assert [tensor["name"] for tensor in result.get_response()["outputs"]] == ["difference", "sum"]
    np.testing.assert_array_equal(result.as_numpy("sum"), [11, 22, 33])
    np.testing.assert_array_equal(result.as_numpy("difference"), [-9, -18, -27])


def test_only_requested_outputs_are_returned(client: InferenceServerClient) -> None:
    result = client.infer("pair", pair(), outputs=[InferRequestedOutput("sum")])
    assert result.as_numpy("difference") is None


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_bodies_are_read(client: InferenceServerClient, algorithm: str, binary: bool) -> None:
    result = client.infer(
        "pair",
        pair(binary=binary),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(result.as_numpy("sum"), [11, 22, 33])


def test_async_infer(client: InferenceServerClient) -> None:
    np.testing.assert_array_equal(client.async_infer("pair", pair()).get_result().as_numpy("sum"), [11, 22, 33])


def test_stage_in_the_clients_url(server: RunningServer) -> None:
    key = {"x-api-key": server.api_key("keyed")}
    with InferenceServerClient(f"127.0.0.1:{server.port}/keyed") as client:
        np.testing.assert_array_equal(client.infer("pair", pair(), headers=key).as_numpy("sum"), [11, 22, 33])
        assert client.get_model_metadata("pair", headers=key)["name"] == "pair"


def refusal(client: InferenceServerClient, model: str, inputs: list[InferInput], **options: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs, **options)
    return caught.value.status(), caught.value.message()


def test_errors_raise_the_exception_of_the_client_with_our_message(client: InferenceServerClient) -> None:
    a, _ = pair()
    wide = tensor("b", np.zeros((2, 2), "f4"))
    other = tensor("b", np.zeros(3, "i8"))
    assert refusal(client, "pair", [a, wide]) == ("400", "input `b`: expected shape [-1], got [2, 2]")
    assert refusal(client, "pair", [a, other]) == ("400", "input `b`: expected datatype FP32, got INT64")
    assert refusal(client, "pair", [a]) == ("400", "input `b` is missing: expected FP32 [-1], got inputs: `a`")
    status, sentence = refusal(client, "pair", pair(), outputs=[InferRequestedOutput("nope")])
    assert (status, sentence) == ("400", "unknown output: expected `sum`, `difference`, got `nope`")
    assert refusal(client, "nope", pair()) == ("404", "unknown model `nope`; GET /models lists them")
    assert refusal(client, "pair", pair(), model_version="3") == ("404", "pair has no version `3`; it has 1, v2")
    assert refusal(client, "failing", pair()) == ("500", "failing v1: preprocess failed; see the function's log")


def test_unsupported_requests_are_reported(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unknown path /v2/models/pair/config"):
        client.get_model_config("pair")
    with pytest.raises(InferenceServerException, match="unknown model `nope`"):
        client.get_model_metadata("nope")
