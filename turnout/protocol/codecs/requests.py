"""A decoded request in any form: its tensors and the requested format of the answer.

An unknown field is rejected, since ignoring it would answer a different request. Only the protocol's `parameters` may
have any content; those that would change the answer are rejected by name. `null` counts as not sent for `id`,
`parameters`, `outputs` and `data`, since some clients write every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.errors import RequestError, shown
from turnout.protocol.tensors.binary_tensors import BinaryPart
from turnout.protocol.tensors.datatypes import Array
from turnout.protocol.tensors.interface import Interface


@dataclass(slots=True, eq=False)
class Payload:
    """A body, read as far as all forms have in common.

    Args:
        document: the JSON.
        part: the binary tensors after it, or None.
        booleans: whether the JSON can contain `true` or `false` at all.
        size: size of the whole body in bytes.
    """

    document: dict[str, Any]
    part: BinaryPart | None
    booleans: bool
    size: int = 0


@dataclass(slots=True, eq=False)
class InferenceRequest:
    """One decoded request, and the requested format of its answer.

    Args:
        form: a key of `codecs.CODECS`.
        inputs: name -> array. BYTES are object arrays of `bytes`, BF16 is `uint16` bits. Arrays may be read-only.
        id: repeated in the answer; None if none was sent.
        outputs: the requested names in this order; empty for all.
        binary: output name -> whether it was requested in binary, if the request says so.
        binary_default: whether the other outputs are binary.
        rows: number of instances; -1 in the other forms.
        largest_bytes: limit of the answer's body itself; None for Lambda's limit, after escaping or in base64.
    """

    form: str
    inputs: dict[str, Array]
    id: str | None = None
    outputs: tuple[str, ...] = ()
    binary: Mapping[str, bool] | None = None
    binary_default: bool = False
    rows: int = -1
    largest_bytes: int | None = None

    def wants_binary(self, output: str) -> bool:
        """Whether that output is written in binary after the JSON."""
        return self.binary_default if self.binary is None else self.binary.get(output, self.binary_default)


_OUTPUT_FIELDS = frozenset({"name", "parameters"})

_ONLY_OPEN = "outside the Open Inference Protocol's form"

# Triton's extensions: if they were ignored, the answer would differ from what was asked for.
_UNSERVED_PARAMETERS = ("classification", "shared_memory_region")

BASE64 = "base64"
"""The only `content_type` of MLServer's that changes the meaning of values."""


def read_answer_fields(document: dict[str, Any], interface: Interface, request: InferenceRequest) -> None:
    """Return `id`, `outputs` and `parameters`."""
    identity = document.get("id")
    if identity is not None and type(identity) is not str:
        raise invalid("`id`", "a string", identity)
    request.id = identity
    if document.get("parameters") is not None:
        parameters = read_parameters(document, "the request")
        _check_sequence(parameters)
        request.binary_default = read_flag(parameters, "binary_data_output", "the request")
        if request.binary_default and request.form != "open":
            raise invalid("`parameters` of the request", f"no `binary_data_output` {_ONLY_OPEN}", parameters)
    outputs = document.get("outputs")
    if outputs is None:
        return
    if type(outputs) is not list:
        raise invalid("`outputs`", "a list of objects with a name", outputs)
    binary: dict[str, bool] = {}
    for output in outputs:
        name = _read_output(output, request, binary)
        if name not in interface.outputs and not interface.free_outputs:
            raise interface.unknown_output(name, interface.outputs)
    request.outputs = tuple(binary)
    request.binary = binary


def _read_output(output: Any, request: InferenceRequest, binary: dict[str, bool]) -> str:
    if type(output) is str and request.form != "open":
        output = {"name": output}
    if type(output) is not dict or type(output.get("name")) is not str:
        raise invalid("`outputs`", "objects with a name", output)
    name: str = output["name"]
    check_fields(output, _OUTPUT_FIELDS, f"output `{name[:50]}`")
    if name in binary:
        raise invalid(f"output `{name[:50]}`", "once", "twice", name[:50])
    binary[name] = request.binary_default
    if output.get("parameters") is not None:
        parameters = read_parameters(output, f"output `{name[:50]}`")
        if "binary_data" in parameters:
            binary[name] = read_flag(parameters, "binary_data", f"output `{name[:50]}`")
    if binary[name] and request.form != "open":
        raise invalid(f"output `{name[:50]}`", f"no `binary_data` {_ONLY_OPEN}", "it", name[:50])
    return name


def _check_sequence(parameters: dict[str, Any]) -> None:
    """Check Triton's parameters of a sequence: models here have no state, so they change nothing, as in Triton."""
    identity = parameters.get("sequence_id", 0)
    if type(identity) is not int and type(identity) is not str:
        raise invalid("`sequence_id` of the request", "an integer or a string", identity)
    for name in ("sequence_start", "sequence_end"):
        read_flag(parameters, name, "the request")


def read_parameters(holder: dict[str, Any], where: str, *, base64: bool = False) -> dict[str, Any]:
    """Return the `parameters` of a request, an input or an output; empty if they are null.

    Args:
        holder: object with the parameters.
        where: name of this object for the error.
        base64: whether `content_type` may be `base64` there.
    """
    parameters = holder["parameters"]
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise invalid(f"`parameters` of {where}", "an object", parameters)
    for name in _UNSERVED_PARAMETERS:
        if parameters.get(name):
            raise invalid(f"`parameters` of {where}", f"no `{name}`, which is not served", parameters[name])
    if not base64 and is_base64(parameters):
        expected = "`content_type: base64` on BYTES inputs with `data` only; `binary_data: true` asks for raw outputs"
        raise invalid(f"`parameters` of {where}", expected, parameters["content_type"])
    return parameters


def is_base64(parameters: dict[str, Any]) -> bool:
    """Whether the parameters declare the values as base64."""
    content_type = parameters.get("content_type")
    return type(content_type) is str and content_type.strip().lower() == BASE64


def read_flag(parameters: dict[str, Any], name: str, where: str) -> bool:
    """Return a true or false in `parameters`; false if it is not sent."""
    flag = parameters.get(name, False)
    if type(flag) is not bool:
        raise invalid(f"`{name}` of {where}", "true or false", flag)
    return flag


def check_fields(document: dict[str, Any], known: frozenset[str], where: str) -> None:
    """Reject unknown fields."""
    if not document.keys() <= known:
        unknown = min(document.keys() - known)
        raise invalid(f"{where} has an unknown field", ", ".join(sorted(known)), unknown)


def invalid(what: str, expected: str, got: Any, tensor: str | None = None) -> RequestError:
    """Return INVALID_REQUEST with the place, the expected and the received value."""
    seen = shown(got)
    details = {"expected": expected, "got": seen}
    if tensor is not None:
        details["tensor"] = tensor
    return RequestError("INVALID_REQUEST", f"{what}: expected {expected}, got {seen}", **details)
