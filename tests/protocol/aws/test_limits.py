"""All payload limits are defined in one module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.source_trees import parse_source
from turnout.protocol.aws import limits

REPOSITORY = Path(limits.__file__).resolve().parents[2]
SOURCES = ("turnout", "infra", "router_lambda", "model_lambdas")

UNMISTAKABLE = {limits.LARGEST_REQUEST_BYTES, limits.LARGEST_EVENT_BYTES, limits.LARGEST_ANSWER_BYTES}
"""Values that only mean a limit: 1 MB and 10,240 are other things, too: a unit, and Lambda's largest memory."""

ELSEWHERE = {("turnout/plan/checks/quotas.py", "DOCUMENT_BYTES")}
"""The largest OpenAPI document is also 6 MB, but not a payload."""


def fold(node: ast.expr, units: dict[str, int]) -> int | None:
    """Return the value of an expression of integers, sums and products; None for any other expression."""
    match node:
        case ast.Constant(int(value)):
            return value
        case ast.Name(name) if name in units:
            return units[name]
        case ast.BinOp(left, ast.Mult() | ast.Add() | ast.LShift() as operator, right):
            first, second = fold(left, units), fold(right, units)
            if first is None or second is None:
                return None
            if isinstance(operator, ast.LShift):
                return first << second if second < 64 else None
            return first * second if isinstance(operator, ast.Mult) else first + second
    return None


def respelled(tree: ast.AST, name: str) -> Iterator[str]:
    """Yield the places where a module writes a limit itself."""
    units = {"MB": 1024 * 1024, "KB": 1024, "MIB": 1024 * 1024}
    assigned = {
        id(node.value): getattr(target, "id", "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
    }
    for node in ast.walk(tree):
        is_limit = isinstance(node, ast.expr) and fold(node, units) in UNMISTAKABLE
        if is_limit and (name, assigned.get(id(node), "")) not in ELSEWHERE:
            yield f"{name}:{node.lineno}"


def test_no_other_module_writes_a_limit() -> None:
    results = [
        where
        for folder in SOURCES
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if path != Path(limits.__file__).resolve()
        for where in respelled(parse_source(path), path.relative_to(REPOSITORY).as_posix())
    ]
    assert results == []


@pytest.mark.parametrize("text", ["6 * 1024 * 1024", "6 * MB + 100", "6_291_556", "f(most=10 << 20)", "[10485760]"])
def test_a_limit_is_recognized_in_any_spelling(text: str) -> None:
    assert set(respelled(ast.parse(f"x = {text}"), "m.py")) == {"m.py:1"}


def test_limits_are_the_numbers_in_messages_of_aws() -> None:
    assert (limits.LARGEST_EVENT_BYTES, limits.LARGEST_ANSWER_BYTES) == (6_291_456, 6_291_556)
    assert limits.LARGEST_REQUEST_BYTES == 10_485_760
    assert limits.LARGEST_ASYNC_EVENT_BYTES == 1_048_576
