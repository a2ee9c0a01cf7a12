"""How large a version's smallest request is by the time it reaches the function.

API Gateway hands the body to the function in base64, inside the event.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnout.artifacts.example_request import count_elements
from turnout.protocol.tensors.datatypes import DATATYPES, Signature

EVENT_BYTES = 4096
"""About what an event holds beside its body."""

TENSOR_BYTES = 80
"""About what a tensor's name, datatype and shape take."""

JSON_BYTES = {
    "BOOL": 6,
    "UINT8": 4,
    "UINT16": 6,
    "UINT32": 11,
    "UINT64": 21,
    "INT8": 5,
    "INT16": 7,
    "INT32": 12,
    "INT64": 21,
    "FP16": 8,
    "BF16": 8,
    "FP32": 12,
    "FP64": 20,
    "BYTES": 3,
}
"""About what an element takes in JSON at full precision, its comma counted; the empty string for BYTES."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One request in bytes, in base64 and with the rest of its event."""

    json_bytes: int
    binary_bytes: int


def estimate_payload(signature: Signature) -> Payload:
    """The smallest request: required inputs only, every free dimension 1."""
    json_bytes = binary_bytes = 0
    for tensor in signature.inputs:
        if tensor.required:
            elements = count_elements(tensor)
            json_bytes += TENSOR_BYTES + len(tensor.name) + elements * JSON_BYTES[tensor.datatype]
            # Of BYTES the length alone, four bytes: the smallest string is empty.
            binary_bytes += TENSOR_BYTES + len(tensor.name) + elements * (DATATYPES[tensor.datatype].size or 4)
    return Payload(_in_event(json_bytes), _in_event(binary_bytes))


def _in_event(body_bytes: int) -> int:
    return EVENT_BYTES + 4 * -(-body_bytes // 3)
