"""The Open Inference Protocol's form of a request and of an answer, with its binary tensor data extension.

Source: Open Inference Protocol, "Inference"; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from turnout.protocol.codecs.requests import (
    InferenceRequest,
    Payload,
    check_fields,
    invalid,
    is_base64,
    read_answer_fields,
    read_parameters,
)
from turnout.protocol.codecs.responses import Answer, write_json
from turnout.protocol.errors import RequestError, shown
from turnout.protocol.tensors.binary_tensors import BinaryPart, view_binary, write_binary
from turnout.protocol.tensors.datatypes import DATATYPES, Array, Datatype
from turnout.protocol.tensors.interface import Input, Interface, datatype_of
from turnout.protocol.tensors.json_shapes import flatten_to, read_shape
from turnout.protocol.tensors.json_values import AS_THEY_ARE, FEW, TYPECODES, decode_base64, read_values, write_values
from turnout.protocol.tensors.long_lists import LongList

_NO_PARAMETERS: dict[str, Any] = {}

_FIELDS = frozenset({"id", "inputs", "outputs", "parameters", "model_name", "model_version"})
_TENSOR_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})


def read_open(payload: Payload, interface: Interface) -> InferenceRequest:
    """Return the protocol's request: `{"inputs": [{"name", "shape", "datatype", "data"}]}`.

    `model_name` and `model_version` are allowed (KServe's client sends them) if they match the version that answers.
    """
    document = payload.document
    if not document.keys() <= _FIELDS:
        check_fields(document, _FIELDS, "the request")
    inputs: dict[str, Array] = {}
    for tensor in document["inputs"]:
        usual = _read_usual(tensor, payload, interface)
        name, values = _read_tensor(tensor, payload, interface) if usual is None else usual
        if name in inputs:
            message = f"input `{name}`: expected once, got twice"
            raise RequestError("DUPLICATE_INPUT", message, tensor=name, expected="once", got="twice")
        inputs[name] = values
    request = InferenceRequest("open", inputs)
    if len(document) > 1:
        read_answer_fields(document, interface, request)
        _check_addressee(document, interface)
    return request


def _read_usual(tensor: Any, payload: Payload, interface: Interface) -> tuple[str, Array] | None:
    """Read a small JSON tensor in half the time of `_read_tensor`; return None if that is necessary.

    A usual tensor has exactly the four fields, a shape of the declared rank without zeros, and a flat list of a few
    plain numbers that fit it. Nothing is rejected here.
    """
    try:
        name = tensor["name"]
        spec = interface.inputs[name]
        shape, data = tensor["shape"], tensor["data"]
        if (
            len(tensor) != 4
            or len(shape) != spec.rank
            or len(data) > FEW
            or type(data) is not list
            or tensor["datatype"] != spec.datatype.name
            or payload.booleans
            or interface.free_inputs
        ):
            return None
        count = 1
        for size, declared in zip(shape, spec.shape or (), strict=True):
            if type(size) is not int or size < 1 or (size != declared and declared >= 0):
                return None
            count *= size
        if count != len(data):
            return None
        values = array(TYPECODES[spec.datatype.name], data)
    except (KeyError, TypeError, OverflowError):
        return None
    if values.typecode == "f" and not math.isfinite(sum(values)):
        return None
    return name, np.ndarray(shape, spec.datatype.dtype, values)


def _read_tensor(tensor: Any, payload: Payload, interface: Interface) -> tuple[str, Array]:
    if type(tensor) is not dict:
        raise invalid("`inputs`", "objects with name, shape, datatype and data", tensor)
    name: Any = tensor.get("name")
    spec = interface.inputs.get(name) if type(name) is str and not interface.free_inputs else None
    if spec is None:
        spec = _find_input(name, interface)
    if not tensor.keys() <= _TENSOR_FIELDS:
        check_fields(tensor, _TENSOR_FIELDS, f"input `{name[:50]}`")
    shape = read_shape(name, tensor.get("shape"), payload.size)
    if spec is None:
        datatype = _read_datatype(name, tensor.get("datatype"))
    else:
        datatype = spec.datatype
        if tensor.get("datatype") != datatype.name:
            spec.check_datatype(tensor.get("datatype"))
        spec.check_shape(shape)
    return name, _read_data(name, datatype, shape, tensor, payload).reshape(shape)


def _find_input(name: Any, interface: Interface) -> Input | None:
    """Return the session's input with that name; None if a `preprocess` runs first and any tensor is allowed."""
    if type(name) is not str:
        raise interface.unknown_input(name)
    if interface.free_inputs:
        return None
    if name not in interface.inputs:
        raise interface.unknown_input(name)
    return interface.inputs[name]


def _read_data(
    name: str, datatype: Datatype, shape: tuple[int, ...], tensor: dict[str, Any], payload: Payload
) -> Array:
    count = math.prod(shape)
    data = tensor.get("data")
    parameters = _NO_PARAMETERS
    if "parameters" in tensor:
        may_be_base64 = datatype.name == "BYTES" and data is not None
        parameters = read_parameters(tensor, f"input `{name[:50]}`", base64=may_be_base64)
    size = parameters.get("binary_data_size")
    if size is None:
        if data is None:
            raise invalid(f"input `{name[:50]}`", "`data`, or `binary_data_size` in `parameters`", None, name[:50])
        if type(data) is LongList:
            return data.read(datatype, count)
        values = read_values(name, datatype, flatten_to(name, data, shape, count), booleans=payload.booleans)
        return decode_base64(name, values) if is_base64(parameters) else values
    if data is not None:
        raise invalid(f"input `{name[:50]}`", "one of `data` and `binary_data_size`", "both", name[:50])
    part = payload.part
    if part is None:
        if size != 0:
            expected = "the header Inference-Header-Content-Length for `binary_data_size`"
            message = f"input `{name[:50]}`: expected {expected}, got none"
            raise RequestError("INVALID_BINARY", message, tensor=name[:50], expected=expected, got=None)
        # KServe's client sends the header only if a tensor has bytes; a tensor without elements has none.
        part = BinaryPart(b"", 0)
    return part.take(name, datatype, count, size)


def _read_datatype(name: str, datatype: Any) -> Datatype:
    if type(datatype) is str and datatype in DATATYPES:
        return DATATYPES[datatype]
    expected, got = f"one of {', '.join(DATATYPES)}", shown(datatype)
    message = f"input `{name}`: expected datatype {expected}, got {got}"
    raise RequestError("DATATYPE_MISMATCH", message, tensor=name, expected=expected, got=got)


def _check_addressee(document: dict[str, Any], interface: Interface) -> None:
    for field, ours in (("model_name", interface.model), ("model_version", interface.version)):
        said = document.get(field)
        if said is not None and said not in ("", ours):
            raise invalid(f"`{field}`", f'"{ours}"', document[field])


def write_open(outputs: Mapping[str, Array], request: InferenceRequest, interface: Interface) -> Answer:
    """Return the protocol's answer: flat data, each tensor in JSON or binary as the request specified."""
    parts: dict[str, bytes | memoryview] = {}
    # An answer that may be written to a file is not put together in memory.
    write = write_binary if request.largest_bytes is None else view_binary
    if request.binary_default or request.binary:
        for name, values in outputs.items():
            if request.wants_binary(name):
                parts[name] = write(datatype_of(values, interface.outputs.get(name)), values)
    text = write_json(_document, outputs, request, interface, parts)
    if not parts:
        return Answer(text)
    if request.largest_bytes is not None:
        return Answer(text, len(text), tuple(parts.values()))
    return Answer(b"".join((text, *parts.values())), len(text))


def _document(
    outputs: Mapping[str, Array],
    request: InferenceRequest,
    interface: Interface,
    parts: Mapping[str, bytes | memoryview],
    *,
    spelled: bool = False,
) -> dict[str, Any]:
    answer: dict[str, Any] = {"model_name": interface.model, "model_version": interface.version}
    if request.id is not None:
        answer["id"] = request.id
    tensors = answer["outputs"] = []
    declared = interface.outputs
    for name, values in outputs.items():
        datatype = datatype_of(values, declared.get(name))
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": values.shape}
        if name in parts:
            tensor["parameters"] = {"binary_data_size": len(parts[name])}
        elif datatype in AS_THEY_ARE and not spelled:
            tensor["data"] = values.ravel()  # contiguous, unlike reshape(-1) of a slice such as values[:, :, 0]
        else:
            tensor["data"] = write_values(name, datatype, values.reshape(-1), spelled=spelled)
        tensors.append(tensor)
    return answer
