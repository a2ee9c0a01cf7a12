from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.plan.checks.compatibility import check_drop_in
from turnout.protocol.tensors.datatypes import Signature, TensorSpec

X = TensorSpec("x", "FP32", (-1, 4), ("batch", None))
Y = TensorSpec("y", "FP32", (-1, 3))
Z = TensorSpec("z", "INT64", (-1,))
BASE = Signature((X,), (Y, Z))


def with_input(**changes: object) -> Signature:
    return replace(BASE, inputs=(replace(X, **changes),))


def with_output(**changes: object) -> Signature:
    return replace(BASE, outputs=(replace(Y, **changes), Z))


@pytest.mark.parametrize(
    "other",
    [
        BASE,
        with_input(shape=(-1, -1)),
        with_input(shape=None),
        with_input(required=False),
        with_input(dimension_names=("n", None)),
        replace(BASE, inputs=(X, replace(X, name="more", required=False))),
        with_output(labels=("a", "b", "c")),
        replace(BASE, outputs=(Z, Y)),
        replace(BASE, outputs=(*BASE.outputs, TensorSpec("w", "BYTES", None))),
        replace(BASE, metadata={"producer": "another"}),
    ],
)
def test_version_that_requires_no_more_and_returns_no_less_is_a_drop_in(other: Signature) -> None:
    assert check_drop_in(BASE, other) == ()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (with_input(datatype="FP64"), "input `x` is FP64, the baseline's is FP32"),
        (with_input(shape=(-1, 5)), "input `x` has the shape [-1, 5], the baseline's is [-1, 4]"),
        (with_input(shape=(1, 4)), "input `x` has the shape [1, 4], the baseline's is [-1, 4]"),
        (with_input(shape=(-1,)), "input `x` has rank 1 [-1], the baseline's has rank 2 [-1, 4]"),
        (with_output(datatype="INT64"), "output `y` is INT64, the baseline's is FP32"),
        (with_output(shape=(-1, 4)), "output `y` has the shape [-1, 4], the baseline's is [-1, 3]"),
        (with_output(shape=(-1, -1)), "output `y` has the shape [-1, -1], the baseline's is [-1, 3]"),
        (with_output(shape=()), "output `y` has rank 0 [], the baseline's has rank 2 [-1, 3]"),
        (with_output(shape=None), "output `y` has no declared rank, the baseline's has [-1, 3]"),
        (replace(BASE, outputs=(Y,)), "output `z` is missing"),
        (
            replace(BASE, inputs=(X, replace(X, name="more"))),
            "input `more` is required here and unknown to the baseline",
        ),
        (
            replace(BASE, inputs=(replace(X, required=False), replace(X, name="more", required=False))),
            "input `x` receives bare values in `instances` in the baseline, but not here",
        ),
        (
            with_output(shape=(7, 3)),
            "output `y` has the shape [7, 3], with no row per instance: `instances` cannot be answered",
        ),
        (
            replace(BASE, outputs=(*BASE.outputs, TensorSpec("w", "FP32", ()))),
            "output `w` has the shape [], with no row per instance: `instances` cannot be answered",
        ),
    ],
)
def test_reason_names_the_tensor_and_the_difference(other: Signature, reason: str) -> None:
    assert check_drop_in(BASE, other) == (reason,)


@pytest.mark.parametrize(
    ("baseline", "other", "reason"),
    [
        (with_input(shape=None), BASE, "input `x` has [-1, 4], the baseline's has no declared rank"),
        (
            with_input(required=False),
            BASE,
            "input `x` is optional in the baseline and required here",
        ),
        (replace(BASE, inputs=(X, Z)), BASE, "input `z` is missing"),
        (
            replace(BASE, outputs=(Y,)),
            BASE,
            "there is more than one output: `predictions` of a model with one output are bare values",
        ),
        (
            with_output(labels=(0, 1, 2)),
            with_output(labels=(0, 2, 1)),
            "output `y` has the labels [0, 2, 1], the baseline's are [0, 1, 2]",
        ),
        (
            with_output(labels=tuple(range(10))),
            with_output(),
            "output `y` has the labels [], the baseline's are [0, 1, 2, 3, 4, 5, 6, 7, …]",
        ),
    ],
)
def test_reason_if_the_baseline_is_the_unusual_one(baseline: Signature, other: Signature, reason: str) -> None:
    assert check_drop_in(baseline, other) == (reason,)


def test_output_may_fix_a_dimension_that_is_free_in_the_baseline() -> None:
    assert check_drop_in(with_output(shape=(-1, -1)), BASE) == ()
    assert check_drop_in(with_output(shape=None), BASE) == ()
    scalar = with_output(shape=())
    assert check_drop_in(scalar, scalar) == ()


def test_all_reasons_are_reported_together() -> None:
    other = Signature((replace(X, datatype="FP64", shape=(-1, 5)),), (replace(Z, name="other"),))
    assert check_drop_in(BASE, other) == (
        "input `x` is FP64, the baseline's is FP32",
        "input `x` has the shape [-1, 5], the baseline's is [-1, 4]",
        "output `y` is missing",
        "output `z` is missing",
    )


def tensors(name: str) -> st.SearchStrategy[TensorSpec]:
    shapes = st.none() | st.lists(st.sampled_from([-1, 2, 3]), max_size=2).map(tuple)
    labels = st.sampled_from([(), ("a", "b"), ("b", "a")])
    return st.builds(
        TensorSpec, st.just(name), st.sampled_from(["FP32", "INT64"]), shapes, st.just(()), st.booleans(), labels
    )


def several(least: int) -> st.SearchStrategy[tuple[TensorSpec, ...]]:
    names = st.lists(st.sampled_from("ab"), min_size=least, max_size=2, unique=True)
    return names.flatmap(lambda chosen: st.tuples(*(tensors(name) for name in chosen)))


SIGNATURES = st.builds(Signature, several(0), several(1))


@given(SIGNATURES)
def test_drop_in_is_reflexive(signature: Signature) -> None:
    assert check_drop_in(signature, signature) == ()


@st.composite
def loosened(draw: st.DrawFn, signature: Signature) -> Signature:
    """A signature similar to another one, often a drop-in for it."""
    inputs = tuple(
        replace(
            tensor, required=tensor.required and draw(st.booleans()), shape=draw(st.sampled_from([tensor.shape, None]))
        )
        for tensor in signature.inputs
    )
    outputs = tuple(
        replace(tensor, shape=(2,) * len(tensor.shape) if tensor.shape and draw(st.booleans()) else tensor.shape)
        for tensor in signature.outputs
    )
    extra = draw(st.lists(tensors("extra"), max_size=1))
    return Signature((*inputs, *(replace(tensor, required=False) for tensor in extra)), (*outputs, *extra))


@given(st.data())
def test_drop_in_is_transitive(data: st.DataObject) -> None:
    first = data.draw(SIGNATURES)
    second = data.draw(loosened(first) | SIGNATURES)
    names = {tensor.name for tensor in (*second.inputs, *second.outputs)}
    third = data.draw(SIGNATURES if "extra" in names else loosened(second) | SIGNATURES)
    if not check_drop_in(first, second) and not check_drop_in(second, third):
        assert check_drop_in(first, third) == ()


def accepts(signature: Signature, sent: dict[str, tuple[str, tuple[int, ...]]]) -> bool:
    """Whether a request (name -> datatype and shape) is valid for the signature."""
    known = {tensor.name: tensor for tensor in signature.inputs}
    if not all(name in sent for name, tensor in known.items() if tensor.required):
        return False
    for name, (datatype, shape) in sent.items():
        tensor = known.get(name)
        if tensor is None or tensor.datatype != datatype:
            return False
        if tensor.shape is None:
            continue
        if len(shape) != len(tensor.shape) or any(
            want not in {-1, got} for want, got in zip(tensor.shape, shape, strict=True)
        ):
            return False
    return True


REQUESTS = st.dictionaries(
    st.sampled_from("ab"),
    st.tuples(st.sampled_from(["FP32", "INT64"]), st.lists(st.sampled_from([2, 3]), max_size=2).map(tuple)),
)


@given(st.data())
def test_request_that_is_valid_for_the_baseline_is_valid_for_its_drop_in(data: st.DataObject) -> None:
    baseline = data.draw(SIGNATURES)
    other = data.draw(loosened(baseline) | SIGNATURES)
    request = data.draw(REQUESTS)
    if not check_drop_in(baseline, other) and accepts(baseline, request):
        assert accepts(other, request)
