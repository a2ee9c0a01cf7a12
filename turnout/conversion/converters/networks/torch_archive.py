"""Checks the archive of an exported program before PyTorch opens it.

`torch.export.load` can run code from three places:

- pickled tensors and example inputs, which TORCH_FORCE_WEIGHTS_ONLY_LOAD limits to plain tensors;
- pickled objects beside the weights;
- sizes of free dimensions, which `sympy.sympify` evaluates.
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..start import RefusedJob

EXPORT_HINT = (
    "Save it where you trained it:\n"
    "    program = torch.export.export(model.eval(), (x,), dynamic_shapes={'x': {0: torch.export.Dim('batch')}})\n"
    "    torch.export.save(program, 'model.pt2')"
)

TRUST_HINT = "If you know who wrote it, add --trust-pickle."

FUNCTIONS = frozenset({"floor", "ceiling"})
"""Functions of sympy in sizes that begin with a small letter. Those of Python do as well, so no others are allowed."""

_PLAIN = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)


def check_archive(path: Path, *, trusted: bool) -> None:
    """Check that a file is an exported program, and that opening it runs no code unless it is trusted.

    Raises:
        RefusedJob: it is another kind of file, or it holds objects or code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            graphs = [json.loads(archive.read(name)) for name in names if _is_graph(name)]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RefusedJob(f"{path.name} is not an exported program of PyTorch: {error}", EXPORT_HINT) from None
    if not graphs:
        raise RefusedJob(f"{path.name} is {_kind(names)}, not an exported program of PyTorch", EXPORT_HINT)
    if trusted:
        return
    for name in names:
        if "/constants/" in name and name.rpartition("/")[2].startswith(("custom_obj", "opaque_obj")):
            raise RefusedJob(
                f"{path.name} holds a pickled object, and loading it runs whatever code is in it", TRUST_HINT
            )
    for size in {size for graph in graphs for size in _sizes(graph)}:
        if not is_plain(size):
            raise RefusedJob(f"{path.name} holds code as the size of a dimension: {size[:80]}", TRUST_HINT)


def is_plain(size: str) -> bool:
    """Whether an expression is made of numbers, symbols, operators and functions of sympy."""
    try:
        nodes = list(ast.walk(ast.parse(size, mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return all(isinstance(node, _PLAIN) and _is_harmless(node) for node in nodes)


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return name[:1].isupper() or name in FUNCTIONS
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.isidentifier() and not node.value.startswith("_")
    return not (isinstance(node, ast.Name) and node.id.startswith("_"))


def _is_graph(name: str) -> bool:
    """Whether a file describes a program, in the archives of PyTorch 2.8 and newer, or in older ones."""
    folder, _, file = name.rpartition("/")
    return (folder.endswith("models") and file.endswith(".json")) or file == "serialized_exported_program.json"


def _kind(names: list[str]) -> str:
    if any("/aotinductor/" in name for name in names):
        return "machine code of AOTInductor"
    if any("/code/" in name for name in names):
        return "a TorchScript archive"
    if any(name.endswith("data.pkl") for name in names):
        return "a file of torch.save"
    return "a zip archive"


def _sizes(value: Any) -> Iterator[str]:
    """Yield the expressions that PyTorch evaluates, and the names of their symbols."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "expr_str":
                yield str(item)
            elif key == "range_constraints" and isinstance(item, dict):
                yield from item
            else:
                yield from _sizes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _sizes(item)
