"""Chooses the step with which a switch of a graph continues, by the value of a tensor.

Pure functions.
"""

from __future__ import annotations

import numpy as np

from turnout.protocol import bfloat16
from turnout.protocol.errors import RequestError
from turnout.protocol.routing.graph_nodes import Case, Node, SwitchNode
from turnout.protocol.routing.step_tensors import Tensor, Tensors
from turnout.protocol.tensors.datatypes import Datatype

Value = str | float | bool


def choose_case(switch: SwitchNode, tensors: Tensors) -> Node:
    """Return the step of the first matching case.

    Raises:
        RequestError: SHAPE_MISMATCH if the tensor does not have exactly one element.
    """
    decides = _find_deciding(switch.input, tensors)
    return next((case.then for case in switch.cases if _holds(case, decides)), switch.otherwise)


def _find_deciding(name: str, tensors: Tensors) -> Tensor:
    """Return the one-element tensor that decides a switch."""
    tensor = tensors.get(name)
    if tensor is None or tensor.values.size != 1:
        got = "none" if tensor is None else f"shape {list(tensor.values.shape)}"
        message = f"`{name}`: expected a tensor with one element for the switch, got {got}"
        raise RequestError("SHAPE_MISMATCH", message, tensor=name, expected="one element", got=got)
    return tensor


def _holds(case: Case, decides: Tensor) -> bool:
    """Whether a case matches; a text is neither below nor above a number."""
    value = _read_value(decides)
    if isinstance(value, str) or isinstance(case.value, str):
        return case.op == "equals" and value == case.value
    limit = _rounded(case.value, decides.datatype)
    match case.op:
        case "equals":
            return value == limit
        case "below":
            return value < limit
        case _:
            return value > limit


def _read_value(tensor: Tensor) -> Value:
    values = bfloat16.to_float32(tensor.values) if tensor.datatype.name == "BF16" else tensor.values
    value = values.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    scalar: Value = value if isinstance(value, str) else value.item()
    return scalar


def _rounded(limit: float, datatype: Datatype) -> float:
    """Return a case's number rounded to the datatype: 0.1 in FP32 is more than 0.1."""
    if datatype.kind != "float":
        return limit
    if datatype.name == "BF16":
        return float(bfloat16.to_float32(bfloat16.from_float64(np.asarray(limit, np.float64))))
    with np.errstate(over="ignore"):
        return float(datatype.dtype.type(limit))
