"""The short forms: `{"inputs": {name: lists}}` with `{"outputs": ...}`, `{"instances": []}` with `{"predictions": []}`.

Datatypes come from the signature and shapes from the lists. Both forms also accept `id`, `outputs` (names) and the
protocol's `parameters`. Source: TensorFlow Serving, "RESTful API", for instances and predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.protocol.codecs.requests import InferenceRequest, Payload, check_fields, invalid, read_answer_fields
from turnout.protocol.codecs.responses import Answer, write_json
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Array
from turnout.protocol.tensors.interface import Interface, datatype_of
from turnout.protocol.tensors.json_shapes import flatten_nested
from turnout.protocol.tensors.json_values import infer_datatype, read_values, write_values

_NAMED_FIELDS = frozenset({"id", "inputs", "outputs", "parameters"})
_ROW_FIELDS = frozenset({"id", "instances", "outputs", "parameters", "signature_name"})


def read_named(payload: Payload, interface: Interface) -> InferenceRequest:
    """Read `{"inputs": {name: nested lists}}`: datatypes from the signature, shapes from the lists.

    A tensor that is not in the signature, which only a `preprocess` can need, is BYTES, BOOL, INT64 or FP64 by its
    values.
    """
    document = payload.document
    check_fields(document, _NAMED_FIELDS, "the request")
    inputs = {
        name: _read_nested(name, data, interface, booleans=payload.booleans)
        for name, data in document["inputs"].items()
    }
    request = InferenceRequest("named", inputs)
    read_answer_fields(document, interface, request)
    return request


def _read_nested(name: str, data: Any, interface: Interface, *, booleans: bool, rows: bool = False) -> Array:
    tensor = interface.inputs.get(name)
    if tensor is None:
        if not interface.free_inputs:
            raise interface.unknown_input(name)
        flat, shape = flatten_nested(name, data)
        return read_values(name, infer_datatype(flat), flat, booleans=booleans).reshape(shape)
    flat, shape = flatten_nested(name, data, tensor.shape)
    if rows and not interface.free_inputs:
        shape = _as_column(shape, tensor.shape)
    if not interface.free_inputs:
        tensor.check_shape(shape)
    return read_values(name, tensor.datatype, flat, booleans=booleans).reshape(shape)


def _as_column(shape: tuple[int, ...], declared: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape with the trailing dimensions of 1 that the lists omit: skl2onnx makes each column `[N, 1]`."""
    missing = declared[len(shape) :] if declared and shape else ()
    return shape + missing if missing and set(missing) == {1} else shape


def read_rows(payload: Payload, interface: Interface) -> InferenceRequest:
    """Read `{"instances": [...]}`: a row per instance, `{name: value}`, or the bare value if one input is required.

    A value of a column of shape `[N, 1]` may be written as `5.1` instead of `[5.1]`. The rows are stacked along a new
    first dimension. TensorFlow Serving's `signature_name` may be `serving_default`.
    """
    document = payload.document
    check_fields(document, _ROW_FIELDS, "the request")
    if document.get("signature_name", "serving_default") != "serving_default":
        raise invalid("`signature_name`", '"serving_default"', document["signature_name"])
    rows = document["instances"]
    if type(rows) is not list:
        raise invalid("`instances`", "a list with a row per instance", rows)
    columns = _columns(rows, interface)
    inputs = {
        name: _read_nested(name, column, interface, booleans=payload.booleans, rows=True)
        for name, column in columns.items()
    }
    request = InferenceRequest("rows", inputs, rows=len(rows))
    read_answer_fields(document, interface, request)
    return request


def _columns(rows: list[Any], interface: Interface) -> dict[str, list[Any]]:
    if not rows:
        return {name: [] for name in interface.required}
    if type(rows[0]) is not dict:
        named = interface.required or tuple(interface.inputs)
        if len(named) != 1:
            expected = f"an object per row with {', '.join(f'`{name}`' for name in named[:10])}"
            raise invalid("`instances`", expected, rows[0])
        return {named[0]: rows}
    names = rows[0].keys()
    for index, row in enumerate(rows):
        if type(row) is not dict or row.keys() != names:
            expected = (
                f"an object with the first row's names ({', '.join(f'`{name[:50]}`' for name in list(names)[:10])})"
            )
            raise invalid(f"`instances`, row {index}", expected, list(row)[:10] if type(row) is dict else row)
    return {name: [row[name] for row in rows] for name in names}


def write_named(outputs: Mapping[str, Array], request: InferenceRequest, interface: Interface) -> Answer:
    """Return `{"outputs": {name: nested lists}}`, and `id` if one was sent."""
    return Answer(write_json(_named_answer, outputs, request, interface))


def _named_answer(
    outputs: Mapping[str, Array], request: InferenceRequest, interface: Interface, *, spelled: bool = False
) -> dict[str, Any]:
    return _with_id(request, {"outputs": _nested(outputs, interface, spelled=spelled)})


def write_rows(outputs: Mapping[str, Array], request: InferenceRequest, interface: Interface) -> Answer:
    """Return `{"predictions": [...]}`: a row per instance, bare for one output, else `{name: value}`.

    Raises:
        RequestError: OUTPUT_WITHOUT_ROWS if an output's first dimension is not the number of instances. Such an output
            belongs to the whole batch, not to a row, so nothing is omitted or repeated.
    """
    for name, values in outputs.items():
        if values.shape[:1] != (request.rows,):
            message = (
                f"output `{name}`: expected a first dimension of {request.rows}, one row per instance, got shape "
                f'{list(values.shape)}: send {{"inputs": ...}} instead, or leave it out of `outputs`'
            )
            shape = list(values.shape)
            raise RequestError("OUTPUT_WITHOUT_ROWS", message, tensor=name, expected=[request.rows], got=shape)
    return Answer(write_json(_rows_answer, outputs, request, interface))


def _rows_answer(
    outputs: Mapping[str, Array], request: InferenceRequest, interface: Interface, *, spelled: bool = False
) -> dict[str, Any]:
    columns = _nested(outputs, interface, spelled=spelled)
    if len(columns) == 1:
        (predictions,) = columns.values()
    else:
        predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _with_id(request, {"predictions": predictions})


def _nested(outputs: Mapping[str, Array], interface: Interface, *, spelled: bool) -> dict[str, Any]:
    return {
        name: write_values(name, datatype_of(values, interface.outputs.get(name)), values, spelled=spelled)
        for name, values in outputs.items()
    }


def _with_id(request: InferenceRequest, answer: dict[str, Any]) -> dict[str, Any]:
    if request.id is not None:
        answer["id"] = request.id
    return answer
