"""Requests stored to be sent again, and what is left out of them."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import orjson
import pytest

from turnout.protocol.codecs.samples import CAPTURE_KEY, Sample, make_sample, write_line
from turnout.protocol.tensors.binary_tensors import write_binary

JSON = {"content-type": "application/json"}


def sample(
    body: bytes, headers: Mapping[str, str] = JSON, redact: Collection[str] = (), status: int = 200
) -> Sample | None:
    return make_sample(
        headers,
        body,
        redact,
        time=1790000000.1234,
        stage="prod",
        model="iris",
        version="v1",
        canary=True,
        status=status,
        duration_ms=1.23456,
        resource="/models/iris/inference",
    )


def line_of(sample: Sample | None) -> dict[str, Any]:
    assert sample is not None
    line = write_line(sample)
    assert b"\n" not in line
    line_fields: dict[str, Any] = orjson.loads(line)[CAPTURE_KEY]
    return line_fields


def test_json_is_part_of_the_line_unchanged() -> None:
    assert line_of(sample(b'{\n "inputs": {"x": [[1, 2.5]]}}\n')) == {
        "time": 1790000000.123,
        "stage": "prod",
        "model": "iris",
        "version": "v1",
        "canary": True,
        "status": 200,
        "duration_ms": 1.235,
        "resource": "/models/iris/inference",
        "content_type": "application/json",
        "body": {"inputs": {"x": [[1, 2.5]]}},
    }


@pytest.mark.parametrize("body", [b"", b"{not json", b"\xff\n"])
def test_other_bodies_are_in_base64(body: bytes) -> None:
    line_fields = line_of(sample(body, status=400))
    assert base64.b64decode(line_fields["body_base64"]) == body


def binary_request(**tensors: np.ndarray[Any, Any]) -> tuple[bytes, dict[str, str]]:
    parts = {
        name: write_binary("BYTES" if tensor.dtype == object else "FP32", tensor) for name, tensor in tensors.items()
    }
    rows = [
        {
            "name": name,
            "shape": list(tensor.shape),
            "datatype": "BYTES" if tensor.dtype == object else "FP32",
            "parameters": {"binary_data_size": len(parts[name])},
        }
        for name, tensor in tensors.items()
    ]
    rows.append({"name": "n", "shape": [1], "datatype": "INT64", "data": [7]})
    head = orjson.dumps({"inputs": rows})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return b"".join((head, *parts.values())), headers


def test_binary_tensors_are_in_base64_with_the_length_of_their_json() -> None:
    body, headers = binary_request(x=np.ones((1, 2), np.float32))
    result = sample(body, headers)
    line_fields = line_of(result)
    assert base64.b64decode(line_fields["body_base64"]) == body
    assert str(line_fields["header_length"]) == headers["inference-header-content-length"]
    assert result is not None
    assert result.headers == headers


def test_content_encodings_are_decoded() -> None:
    result = sample(gzip.compress(b'{"instances": [1]}'), {**JSON, "content-encoding": "gzip"})
    assert line_of(result)["body"] == {"instances": [1]}


def test_a_body_with_a_wrong_content_encoding_is_not_stored() -> None:
    assert sample(b"no gzip", {**JSON, "content-encoding": "gzip"}, status=400) is None


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        (
            {"inputs": {"x": [[1, 2.5]], "t": ["a", "b"], "f": [True]}},
            {"inputs": {"x": [[0, 0]], "t": ["", ""], "f": [False]}},
        ),
        ({"inputs": {"x": [[1, "NaN"]], "kept": [3]}}, {"inputs": {"x": [[0, 0]], "kept": [3]}}),
        (
            {"inputs": [{"name": "x", "data": [1, 2]}, {"name": "kept", "data": [3]}]},
            {"inputs": [{"name": "x", "data": [0, 0]}, {"name": "kept", "data": [3]}]},
        ),
        ({"instances": [{"x": [1], "kept": 3}]}, {"instances": [{"x": [0], "kept": 3}]}),
        ({"instances": [[1, 2], [3, 4]]}, {"instances": [[0, 0], [0, 0]]}),
    ],
)
def test_redacted_inputs_keep_only_their_shape(request_body: Any, expected: Any) -> None:
    assert line_of(sample(orjson.dumps(request_body), redact=("x", "t", "f")))["body"] == expected


def test_redacted_binary_tensors_are_zeros_of_the_right_length() -> None:
    x, texts = np.ones((1, 2), np.float32), np.array(["secret", "words"], object)
    body, headers = binary_request(t=texts, x=x, kept=x)
    result = sample(body, headers, redact=("x", "t", "n"))
    assert result is not None
    assert result.header_length is not None
    head, tail = orjson.loads(result.body[: result.header_length]), result.body[result.header_length :]
    assert [tensor.get("parameters", {}).get("binary_data_size") for tensor in head["inputs"]] == [8, 8, 8, None]
    assert head["inputs"][3]["data"] == [0]
    assert tail == bytes(16) + x.tobytes()


def test_inputs_in_a_content_encoding_are_redacted() -> None:
    body, headers = binary_request(x=np.ones((1, 2), np.float32))
    result = sample(gzip.compress(body), {**headers, "content-encoding": "gzip"}, redact=("x",))
    assert result is not None
    assert result.body.endswith(b"}" + bytes(8))


@pytest.mark.parametrize("body", [b'{"inputs": {"X": ["secret"]}}', b"{secret"])
def test_a_rejected_request_is_not_stored_if_values_must_be_redacted(body: bytes) -> None:
    assert sample(body, redact=("x",), status=400) is None
