"""A model's inputs, prepared once for fast checks of many requests: names, datatypes, ranks, dimensions.

Only the outputs' names are known: the shapes that graphs declare for them are often wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.protocol.errors import RequestError, shown
from turnout.protocol.tensors.datatypes import DATATYPES, Array, Datatype, Signature
from turnout.protocol.tensors.json_shapes import mismatch


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `shape` is that of `TensorSpec`; `rank` is -1 if not declared; `fixed` has pairs of axis and size."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] | None
    rank: int
    fixed: tuple[tuple[int, int], ...]

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Reject a shape with another rank, or with another size in a fixed dimension."""
        if self.rank not in {-1, len(shape)}:
            raise self._mismatch(shape)
        for axis, size in self.fixed:
            if shape[axis] != size:
                raise self._mismatch(shape)

    def _mismatch(self, shape: tuple[int, ...]) -> RequestError:
        return mismatch(self.name, f"shape {list(self.shape or ())}", f"{list(shape)}")

    def check_datatype(self, datatype: Any) -> None:
        """Reject another datatype than the input's."""
        if datatype != self.datatype.name:
            expected, got = self.datatype.name, shown(datatype) if not isinstance(datatype, str) else datatype[:50]
            sentence = f"input `{self.name}`: expected datatype {expected}, got {got}"
            raise RequestError("DATATYPE_MISMATCH", sentence, tensor=self.name, expected=expected, got=got)


@dataclass(frozen=True, slots=True)
class Interface:
    """One version's inputs and outputs.

    Args:
        model: `model_name` of the answer.
        version: `model_version` of the answer.
        inputs: by name, in the graph's order.
        required: names that every request must have.
        outputs: name -> datatype, in the graph's order.
        free_inputs: whether a `preprocess` runs before the session, so a request may contain other tensors;
            `check_inputs` then checks its result.
        free_outputs: whether a `postprocess` runs after it, so the answer may contain other tensors.
    """

    model: str
    version: str
    inputs: Mapping[str, Input]
    required: tuple[str, ...]
    outputs: Mapping[str, str]
    free_inputs: bool = False
    free_outputs: bool = False

    def check_missing(self, sent: Mapping[str, Any]) -> None:
        """Reject a request that lacks an input."""
        for name in self.required:
            if name not in sent:
                listed = ", ".join(f"`{sent_name[:50]}`" for sent_name in list(sent)[:10]) or "none"
                spec = self.inputs[name]
                expected = f"{spec.datatype.name} {'of any shape' if spec.shape is None else list(spec.shape)}"
                message = f"input `{name}` is missing: expected {expected}, got inputs: {listed}"
                raise RequestError("MISSING_INPUT", message, tensor=name, expected=expected, got=list(sent)[:10])

    def unknown_input(self, name: Any) -> RequestError:
        """Return the error for an unknown input."""
        got = shown(name) if not isinstance(name, str) else name[:50]
        listed = ", ".join(f"`{known}`" for known in list(self.inputs)[:10])
        sentence = f"unknown input: expected {listed}, got `{got}`"
        return RequestError("UNKNOWN_INPUT", sentence, tensor=got, expected=list(self.inputs)[:10], got=got)

    def unknown_output(self, name: str, known: Iterable[str]) -> RequestError:
        """Return the error for an unknown output."""
        listed = list(known)[:10]
        sentence = f"unknown output: expected {', '.join(f'`{known}`' for known in listed)}, got `{name[:50]}`"
        return RequestError("UNKNOWN_OUTPUT", sentence, tensor=name[:50], expected=listed, got=name[:50])

    def check_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Check a session's arrays, made by a `preprocess`."""
        for name, values in inputs.items():
            spec = self.inputs.get(name)
            if spec is None:
                raise self.unknown_input(name)
            spec.check_datatype(datatype_of(values, spec.datatype.name))
            spec.check_shape(values.shape)
        self.check_missing(inputs)


def build_interface(
    signature: Signature,
    model: str = "",
    version: str = "",
    *,
    free_inputs: bool = False,
    free_outputs: bool = False,
) -> Interface:
    """Return the interface of one version, made once."""
    inputs = {}
    for spec in signature.inputs:
        fixed = tuple((axis, size) for axis, size in enumerate(spec.shape or ()) if size >= 0)
        rank = -1 if spec.shape is None else len(spec.shape)
        inputs[spec.name] = Input(spec.name, DATATYPES[spec.datatype], spec.shape, rank, fixed)
    return Interface(
        model=model,
        version=version,
        inputs=inputs,
        required=tuple(spec.name for spec in signature.inputs if spec.required),
        outputs={spec.name: spec.datatype for spec in signature.outputs},
        free_inputs=free_inputs,
        free_outputs=free_outputs,
    )


_NAMES: Mapping[np.dtype[Any], str] = {
    datatype.dtype: datatype.name for datatype in DATATYPES.values() if datatype.name != "BF16"
}


def datatype_of(values: Array, declared: str | None) -> str:
    """Return the datatype of an array; `uint16` is BF16 if the graph says so. Empty for an unsupported dtype."""
    name = _NAMES.get(values.dtype, "")
    return "BF16" if name == "UINT16" and declared == "BF16" else name
