"""Model functions over small graphs, and calls of them with events like API Gateway's."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson

from model_lambdas.function.handler import ModelFunction
from model_lambdas.function.runtime import FunctionSpec
from model_lambdas.onnx_model.session import Model
from tests.builders.graphs import write_identity
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

DIGEST = "0123456789abcdef" * 4


@dataclass(frozen=True, slots=True)
class Reply:
    """A function's answer, decoded; `json` of a binary answer is its JSON part and `tail` the bytes after it."""

    status: int
    headers: Mapping[str, str]
    json: Any
    tail: bytes = b""


def proxy_event(body: bytes | str | None, headers: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A proxy event as AWS sends it for an API with the binary media type `*/*`; text if `body` is a str."""
    encoded = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return {
        "headers": {"Content-Type": "application/json"} if headers is None else dict(headers),
        "body": encoded,
        "isBase64Encoded": isinstance(body, bytes),
        "stageVariables": None,
        **fields,
    }


def call(function: ModelFunction, body: Any, headers: Mapping[str, str] | None = None, context: Any = None) -> Reply:
    """POST a body: `body` is bytes, or a value that is written as JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return read_reply(function(proxy_event(raw, headers), context or SimpleNamespace()))


def read_reply(answer: Mapping[str, Any]) -> Reply:
    """Check what every answer must contain, and decode it."""
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    headers = answer["headers"]
    assert {"x-turnout-model", "x-turnout-version", "x-turnout-digest", "x-turnout-canary"} < set(headers)
    if not answer["isBase64Encoded"]:
        assert headers["Content-Type"] == "application/json"
        return Reply(answer["statusCode"], headers, json.loads(answer["body"], parse_constant=_refuse_constant))
    assert headers["Content-Type"] == "application/octet-stream"
    raw = base64.b64decode(answer["body"])
    end = int(headers["Inference-Header-Content-Length"])
    return Reply(answer["statusCode"], headers, json.loads(raw[:end]), raw[end:])


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def make_function(
    artifact: Path,
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    transform: Path | None = None,
    memory_mb: int = 1024,
) -> ModelFunction:
    """The function of model `test`, version `v1`."""
    signature = Signature(tuple(inputs), tuple(outputs))
    return ModelFunction(FunctionSpec("test", "v1", DIGEST, signature, artifact, transform, memory_mb), Model)


def identity(
    folder: Path, datatype: str = "FP32", shape: tuple[int, ...] | None = (-1, 4), transform: Path | None = None
) -> ModelFunction:
    """Returns output `y` equal to input `x`."""
    dimensions = None if shape is None else [f"d{axis}" if size < 0 else size for axis, size in enumerate(shape)]
    artifact = write_identity(folder / f"{datatype}-{shape}.onnx", datatype, dimensions)
    return make_function(artifact, [TensorSpec("x", datatype, shape)], [TensorSpec("y", datatype, shape)], transform)


def open_request(
    values: Any, shape: list[int], datatype: str = "FP32", name: str = "x", **fields: Any
) -> dict[str, Any]:
    """An Open Inference Protocol request with one tensor."""
    return {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": values}], **fields}


def binary_request(
    raw: bytes, shape: list[int], datatype: str, name: str = "x", **fields: Any
) -> tuple[bytes, dict[str, str]]:
    """A request of the binary extension with one tensor: body and headers."""
    tensor = {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [tensor], **fields})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + raw, headers


def same_bits(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays are bitwise equal, including shape and dtype."""
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
