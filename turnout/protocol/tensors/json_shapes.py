"""Nested lists of JSON and their shapes: checked against a given shape, or inferred.

Levels are processed one after another without recursion, so depth costs nothing.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from turnout.protocol.errors import RequestError, shown

MAX_RANK = 32
"""numpy 1.26 supports no more dimensions."""

MAX_ELEMENTS = 1 << 24
"""No request within API Gateway's 10 MB has as many elements, and a larger, asynchronous one has at most one per byte.

It also limits a model's allocations for a shape like [0, 1073741824]: dimensions of 0 are not counted.
"""


def read_shape(name: str, shape: Any, body_bytes: int = 0) -> tuple[int, ...]:
    """Return a request's valid `shape`; else INVALID_REQUEST, or SHAPE_MISMATCH if no array is so large.

    Args:
        name: name of the input.
        shape: the sent shape.
        body_bytes: size of the whole body.
    """
    largest = max(MAX_ELEMENTS, body_bytes)
    if type(shape) is not list:
        raise RequestError(
            "INVALID_REQUEST",
            f"input `{name}`: expected a list of integers as `shape`, got {shown(shape)}",
            tensor=name,
            expected="a list of integers",
            got=shown(shape),
        )
    elements = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise RequestError(
                "INVALID_REQUEST",
                f"input `{name}`: expected integers of 0 or more in `shape`, got {shown(size)}",
                tensor=name,
                expected="integers of 0 or more",
                got=shown(size),
            )
        if size:
            elements *= size
        if elements > largest:
            raise mismatch(name, f"at most {largest} elements", "a shape of more")
    if len(shape) > MAX_RANK:
        raise mismatch(name, f"at most {MAX_RANK} dimensions", f"{len(shape)}")
    return tuple(shape)


def flatten_to(name: str, data: Any, shape: tuple[int, ...], count: int) -> list[Any]:
    """Return the elements of `data`, which is flat or nested to `shape`.

    Args:
        name: name of the input.
        data: a list; if `shape` is empty, the element itself.
        shape: the sent shape.
        count: the product of `shape`.

    Raises:
        RequestError: SHAPE_MISMATCH. `read_values` rejects a list among the elements.
    """
    if type(data) is not list:
        if shape:
            raise mismatch(name, f"a list of {count} elements, flat or nested to {list(shape)}", shown(data))
        return [data]
    if not (data and type(data[0]) is list and len(shape) > 1):
        if len(data) != count:
            raise mismatch(name, f"{count} elements for shape {list(shape)}", f"{len(data)}")
        return data
    if len(data) != shape[0]:
        raise mismatch(name, f"lists nested to shape {list(shape)}", f"{len(data)} in the outermost list")
    level: list[Any] = data
    for depth, size in enumerate(shape[1:], start=1):
        level = _next_level(name, level, depth, size)
    return level


def _next_level(name: str, level: list[Any], depth: int, size: int | None) -> list[Any]:
    """Return the elements of a level's lists, each with `size` of them, or all with the same number if it is None."""
    if not level:
        return level
    expected = len(level[0]) if size is None else size
    for index, inner in enumerate(level):
        if type(inner) is not list:
            raise mismatch(name, f"lists only at depth {depth}", f"{shown(inner)} at index {index}")
        if len(inner) != expected:
            got = f"{len(inner)} at index {index}"
            raise mismatch(name, f"lists of {expected} elements at depth {depth}", got)
    return list(chain.from_iterable(level))


def flatten_nested(name: str, data: Any, declared: tuple[int, ...] | None = None) -> tuple[list[Any], tuple[int, ...]]:
    """Return the elements of nested lists and their shape.

    If a list is empty, the depth below it is unknown: the missing dimensions are those of `declared`, the signature's
    shape, with 0 for its free ones.

    Raises:
        RequestError: SHAPE_MISMATCH if the lists are ragged or too deep.
    """
    if type(data) is not list:
        return [data], ()
    level, shape = data, [len(data)]
    while level and type(level[0]) is list:
        if len(shape) == MAX_RANK:
            raise mismatch(name, f"at most {MAX_RANK} levels of lists", "more")
        level = _next_level(name, level, len(shape), None)
        shape.append(len(level) // _product(shape))
    if not level and declared is not None:
        shape += [max(size, 0) for size in declared[len(shape) :]]
        if _product([size for size in shape if size]) > MAX_ELEMENTS:
            raise mismatch(name, f"at most {MAX_ELEMENTS} elements", "a shape of more")
    return level, tuple(shape)


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def mismatch(name: str, expected: str, got: str) -> RequestError:
    """Return SHAPE_MISMATCH with the input, the expected and the received shape."""
    sentence = f"input `{name}`: expected {expected}, got {got}"
    return RequestError("SHAPE_MISMATCH", sentence, tensor=name, expected=expected, got=got)
