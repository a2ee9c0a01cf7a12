"""Answers that exceed Lambda's limit are rejected with an error: before serialization if that is certain, otherwise
after it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from turnout.protocol.aws.events import make_answer
from turnout.protocol.aws.limits import LARGEST_ANSWER_BYTES, LARGEST_BODY_BYTES
from turnout.protocol.codecs.codecs import InferenceRequest, encode_answer
from turnout.protocol.codecs.responses import FEW_ELEMENTS, Answer, check_body
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.interface import build_interface

HEADERS = {
    "Content-Type": "application/octet-stream",
    "x-turnout-model": "m" * 40,
    "x-turnout-version": "v" * 20,
    "x-turnout-digest": "d" * 12,
    "x-turnout-canary": "false",
    "Inference-Header-Content-Length": "1000000",
}


def request(form: str = "open", *, binary: bool = False) -> InferenceRequest:
    return InferenceRequest(form, {}, binary_default=binary)


def encode(outputs: dict[str, Any], asked: InferenceRequest) -> Answer:
    specs = tuple(TensorSpec(name, "FP32", None) for name in outputs)
    return encode_answer(outputs, asked, build_interface(Signature((), specs)))


class Unwritable(np.ndarray[Any, Any]):
    """An array that must not be serialized: only its size counts."""

    def reshape(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("written")

    tobytes = reshape


@pytest.mark.parametrize(
    ("elements", "dtype", "binary"),
    [
        (LARGEST_BODY_BYTES // 4 + 1, "<f4", False),
        (LARGEST_BODY_BYTES // 2 + 1, "u1", False),
        (LARGEST_BODY_BYTES // 5 + 1, "?", False),
        (LARGEST_BODY_BYTES // 16 * 3 + 2, "<f4", True),
        (LARGEST_BODY_BYTES * 3 // 4 + 2, "u1", True),
        (500_000_000, "<f4", False),
    ],
)
def test_an_array_that_cannot_fit_is_rejected_before_serialization(elements: int, dtype: str, *, binary: bool) -> None:
    values = np.broadcast_to(np.zeros((), dtype), elements).view(Unwritable)
    with pytest.raises(RequestError, match="send fewer rows") as caught:
        encode({"y": values}, request(binary=binary))
    assert (caught.value.code, caught.value.status) == ("ANSWER_TOO_LARGE", 413)


def test_many_arrays_count_together() -> None:
    each = np.broadcast_to(np.zeros((), "<f4"), FEW_ELEMENTS // 2).view(Unwritable)
    with pytest.raises(RequestError, match="expected at most"):
        encode({f"y{number}": each for number in range(10)}, request())


def test_fitting_short_texts_and_numbers_are_written() -> None:
    texts = np.full(900_000, b"", object)
    assert encode({"y": texts}, request(binary=True)).json_length is not None
    assert encode({"y": np.zeros(1_500_000, "<f4")}, request()).body.count(b"0.0") == 1_500_000
    assert encode({"y": np.zeros(3_000_000, "<i8")}, request()).body.count(b"0") >= 3_000_000


@pytest.mark.parametrize("form", ["open", "named"])
def test_digits_that_do_not_fit_are_rejected_after_serialization(form: str) -> None:
    values = np.sqrt(np.arange(700_000, dtype="<f4"))
    with pytest.raises(RequestError, match="expected at most"):
        encode({"y": values}, request(form))
    assert len(encode({"y": values[:400_000]}, request(form)).body) > 1_000_000
    assert encode({"y": values}, request(binary=True)).json_length is not None


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (Answer(b"x" * LARGEST_BODY_BYTES), True),
        (Answer(b"x" * (LARGEST_BODY_BYTES + 1)), False),
        (Answer(b'"' * (LARGEST_BODY_BYTES // 2)), True),
        (Answer(b'"' * (LARGEST_BODY_BYTES // 2 + 1)), False),
        (Answer(b"\\" * (LARGEST_BODY_BYTES // 2 + 1)), False),
        (Answer(b"\xc3\xa9" * (LARGEST_BODY_BYTES // 2)), True),
        (Answer(b"\0" * (LARGEST_BODY_BYTES // 4 * 3), 10), True),
        (Answer(b"\0" * (LARGEST_BODY_BYTES // 4 * 3 + 1), 10), False),
    ],
)
def test_the_size_is_measured_as_by_lambda(answer: Answer, *, fits: bool) -> None:
    made = make_answer(200, dict(HEADERS), answer.body, binary=answer.json_length is not None)
    size = len(json.dumps(made, ensure_ascii=False).encode())
    if fits:
        check_body(answer)
        assert LARGEST_ANSWER_BYTES - 1100 < size <= LARGEST_ANSWER_BYTES
    else:
        with pytest.raises(RequestError, match="expected at most"):
            check_body(answer)
        assert size > LARGEST_ANSWER_BYTES - 1100
