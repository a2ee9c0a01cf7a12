"""Datatypes of the Open Inference Protocol, and the inputs and outputs of a model.

Source: Open Inference Protocol, "Tensor Data Types"; ONNX, `onnx.proto` TensorProto.DataType.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Any numpy array."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One row of the table: a wire name and its meaning.

    Args:
        name: name on the wire, `FP32`.
        dtype: the little-endian numpy dtype of its arrays (`uint16` bits for BF16, `object` for BYTES).
        onnx: number in `TensorProto.DataType`.
        size: bytes per element on the wire, 0 for BYTES (each has its own length).
        kind: `float`, `int`, `bool` or `bytes`.
    """

    name: str
    dtype: np.dtype[Any]
    onnx: int
    size: int
    kind: str


DATATYPES: Mapping[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        Datatype("BOOL", np.dtype("?"), 9, 1, "bool"),
        Datatype("UINT8", np.dtype("u1"), 2, 1, "int"),
        Datatype("UINT16", np.dtype("<u2"), 4, 2, "int"),
        Datatype("UINT32", np.dtype("<u4"), 12, 4, "int"),
        Datatype("UINT64", np.dtype("<u8"), 13, 8, "int"),
        Datatype("INT8", np.dtype("i1"), 3, 1, "int"),
        Datatype("INT16", np.dtype("<i2"), 5, 2, "int"),
        Datatype("INT32", np.dtype("<i4"), 6, 4, "int"),
        Datatype("INT64", np.dtype("<i8"), 7, 8, "int"),
        Datatype("FP16", np.dtype("<f2"), 10, 2, "float"),
        Datatype("BF16", np.dtype("<u2"), 16, 2, "float"),
        Datatype("FP32", np.dtype("<f4"), 1, 4, "float"),
        Datatype("FP64", np.dtype("<f8"), 11, 8, "float"),
        Datatype("BYTES", np.dtype("O"), 8, 0, "bytes"),
    )
}
"""Every supported datatype. A new one needs one row here."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as the graph declares it.

    Args:
        name: the graph's own name, unchanged (it may contain any character).
        datatype: a key of `DATATYPES`.
        shape: dimensions, -1 if free; `None` if not even the rank is declared.
        dimension_names: the graph's symbolic names, `None` for dimensions without one; as long as `shape`.
        required: false for an input with an initializer, which is optional.
        labels: the columns of an output that the graph declares as a sequence of maps (scikit-learn's ZipMap): it is
            served as a tensor `[-1, len(labels)]`, a column per label in this order. Empty for a plain tensor.
        content: `image` if the values are files of images, or empty.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    dimension_names: tuple[str | None, ...] = ()
    required: bool = True
    labels: tuple[str | int, ...] = ()
    content: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`, without fields that have their default."""
        fields: dict[str, Any] = {"name": self.name, "datatype": self.datatype}
        fields["shape"] = None if self.shape is None else list(self.shape)
        if any(self.dimension_names):
            fields["dimension_names"] = list(self.dimension_names)
        if not self.required:
            fields["required"] = False
        if self.labels:
            fields["labels"] = list(self.labels)
        if self.content:
            fields["content"] = self.content
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> TensorSpec:
        """Return the spec that `to_json` wrote."""
        return cls(
            name=fields["name"],
            datatype=fields["datatype"],
            shape=None if fields["shape"] is None else tuple(fields["shape"]),
            dimension_names=tuple(fields.get("dimension_names", ())),
            required=fields.get("required", True),
            labels=tuple(fields.get("labels", ())),
            content=fields.get("content", ""),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`."""
        return {
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            **({"metadata": dict(self.metadata)} if self.metadata else {}),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Signature:
        """Return the signature that `to_json` wrote."""
        return cls(
            inputs=tuple(TensorSpec.from_json(tensor) for tensor in fields["inputs"]),
            outputs=tuple(TensorSpec.from_json(tensor) for tensor in fields["outputs"]),
            metadata=dict(fields.get("metadata", {})),
        )
