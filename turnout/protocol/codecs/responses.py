"""An answer's body: JSON with arrays, within Lambda's limit.

An answer over Lambda's limit would reach the caller as a plain 502, after the function had spent seconds and gigabytes
on its digits. So it is rejected with a code, before a digit is written if the number of elements is enough to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from turnout.protocol.aws.events import make_answer
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES, escaped_bytes
from turnout.protocol.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEW_ELEMENTS = 500_000
"""Number of elements that fit in an answer in every datatype and form."""

_SURELY_SMALL_BYTES = 1_000_000

# By numpy's kind: the length of the shortest element in JSON with its comma: `0.0,`, `true,` and, with escaped quotes,
# `"",`.
_LEAST_BYTES = {"f": 4, "b": 5, "O": 5}
_LEAST_BYTES_OF_INTEGERS = 2
_LENGTH_BYTES = 4
"""Bytes of an empty text in binary form."""


@dataclass(slots=True, eq=False)
class Answer:
    """A body: JSON, or, if `json_length` is not None, JSON of that length followed by binary tensors.

    Args:
        body: the bytes.
        json_length: length of the JSON.
        tensors: binary tensors after `body`, as views of their arrays: a large answer is written without copying them.
    """

    body: bytes
    json_length: int | None = None
    tensors: tuple[bytes | memoryview, ...] = ()

    @property
    def size(self) -> int:
        """Size of the whole body in bytes."""
        return len(self.body) + sum(map(len, self.tensors))


def make_tensor_answer(headers: dict[str, str], answer: Answer) -> dict[str, Any]:
    """Return a proxy answer of status 200; binary tensors set the content type and the JSON's length.

    Args:
        headers: headers for JSON; changed if the answer is binary.
        answer: the encoded answer.
    """
    if answer.json_length is None:
        return make_answer(200, headers, answer.body)
    headers["Content-Type"] = "application/octet-stream"
    headers["Inference-Header-Content-Length"] = str(answer.json_length)
    return make_answer(200, headers, b"".join((answer.body, *answer.tensors)), binary=True)


def write_answer_file(headers: dict[str, str], answer: Answer, path: str) -> dict[str, Any]:
    """Write an answer's body to a file, and return the proxy answer of status 200 without the body.

    Args:
        headers: headers for JSON; changed if the answer is binary.
        answer: the encoded answer.
        path: path of a new file.
    """
    with open(path, "xb") as file:  # noqa: PTH123 - routers start without importing pathlib
        file.write(answer.body)
        file.writelines(answer.tensors)
    made = make_tensor_answer(headers, Answer(b"", answer.json_length))
    return {**made, "turnout": {"answer_file": path}}


def write_json(build: Callable[..., dict[str, Any]], *arguments: Any) -> bytes:
    """Return the JSON of `build`'s result; call it with `spelled=True` if orjson wrote NaN or infinity as null."""
    text = orjson.dumps(build(*arguments), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:
        text = orjson.dumps(build(*arguments, spelled=True), option=orjson.OPT_SERIALIZE_NUMPY)
    return text


def check_elements(tensors: Iterable[tuple[NDArray[Any], bool]], largest_bytes: int | None = None) -> None:
    """Reject arrays whose shortest JSON exceeds Lambda's limit: ANSWER_TOO_LARGE.

    Args:
        tensors: each with whether it is written in binary.
        largest_bytes: see `InferenceRequest.largest_bytes`.
    """
    check_counts(((values.size, values.dtype, is_binary) for values, is_binary in tensors), largest_bytes)


def check_counts(counts: Iterable[tuple[int, np.dtype[Any], bool]], largest_bytes: int | None = None) -> None:
    """Do the same as `check_elements`, before the arrays exist.

    Args:
        counts: number of elements of each tensor, its dtype, and whether it is written in binary.
        largest_bytes: see `InferenceRequest.largest_bytes`.
    """
    least = 0
    for count, dtype, is_binary in counts:
        size = _least_bytes_of(count, dtype, is_binary=is_binary)
        least += size if largest_bytes is None or not is_binary else size * 3 // 4
    if least > (LARGEST_BODY_BYTES if largest_bytes is None else largest_bytes):
        raise _too_large(f"{least} or more", largest_bytes)


def _least_bytes_of(count: int, dtype: np.dtype[Any], *, is_binary: bool) -> int:
    if is_binary:
        return count * (_LENGTH_BYTES if dtype.kind == "O" else dtype.itemsize) * 4 // 3
    return count * _LEAST_BYTES.get(dtype.kind, _LEAST_BYTES_OF_INTEGERS)


def check_body(answer: Answer, largest_bytes: int | None = None) -> None:
    """Reject a body that exceeds Lambda's limit, in base64 or after quotes and backslashes are escaped.

    Args:
        answer: the encoded answer.
        largest_bytes: see `InferenceRequest.largest_bytes`.
    """
    body = answer.body
    if largest_bytes is not None:
        if answer.size > largest_bytes:
            raise _too_large(str(answer.size), largest_bytes)
        return
    if len(body) <= _SURELY_SMALL_BYTES:
        return
    is_text = answer.json_length is None
    size = escaped_bytes(body) if is_text else (len(body) + 2) // 3 * 4
    if size > LARGEST_BODY_BYTES:
        raise _too_large(str(size))


def _too_large(got: str, largest_bytes: int | None = None) -> RequestError:
    if largest_bytes is not None:
        message = f"the answer: expected at most {largest_bytes} bytes, got {got}: send fewer rows, or ask for less"
        return RequestError("ANSWER_TOO_LARGE", message, expected=largest_bytes, got=got)
    message = (
        f"the answer: expected at most {LARGEST_BODY_BYTES} bytes, escaped or in base64 as Lambda hands it on, got "
        f"{got}: send fewer rows, ask for fewer `outputs`, or for them in binary"
    )
    return RequestError("ANSWER_TOO_LARGE", message, expected=LARGEST_BODY_BYTES, got=got)
