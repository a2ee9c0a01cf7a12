"""A request generated from a signature alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.builders.manifests import signatures
from turnout.artifacts.example_request import make_request, make_shape
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec


@pytest.mark.parametrize(
    ("shape", "made"),
    [((), ()), ((-1,), (1,)), ((-1, 4), (1, 4)), ((0, 4), (0, 4)), (None, (1,)), ((2, -1, -1), (2, 1, 1))],
)
def test_fixed_dimensions_are_kept_and_free_dimensions_become_one(
    shape: tuple[int, ...] | None, made: tuple[int, ...]
) -> None:
    assert make_shape(TensorSpec("x", "FP32", shape)) == made


def test_optional_inputs_are_left_out() -> None:
    inputs = (TensorSpec("x", "FP32", (1,)), TensorSpec("w", "FP32", (1,), required=False))
    assert [tensor["name"] for tensor in make_request(Signature(inputs, ()))["inputs"]] == ["x"]


@given(signatures())
def test_request_fits_its_signature(tensors: Signature) -> None:
    rows = {entry["name"]: entry for entry in make_request(tensors)["inputs"]}
    assert list(rows) == [tensor.name for tensor in tensors.inputs if tensor.required]
    for tensor in tensors.inputs:
        if tensor.required:
            entry = rows[tensor.name]
            assert entry["datatype"] == tensor.datatype
            assert len(entry["data"]) == int(np.prod(entry["shape"], dtype=int))
            if tensor.shape is not None:
                assert all(size in (wanted, 1) for size, wanted in zip(entry["shape"], tensor.shape, strict=True))


@pytest.mark.parametrize("name", sorted(DATATYPES))
def test_generated_value_is_exact_in_its_datatype(name: str) -> None:
    ((tensor,),) = make_request(Signature((TensorSpec("x", name, (1,)),), ())).values()
    (value,) = tensor["data"]
    kind = {"float": float, "int": int, "bool": bool, "bytes": str}[DATATYPES[name].kind]
    assert type(value) is kind
    if DATATYPES[name].kind == "int":
        assert np.array([value], DATATYPES[name].dtype)[0] == value
