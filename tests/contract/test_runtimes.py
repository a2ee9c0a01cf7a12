"""The registry is the only place that knows runtimes: an entry and a folder each, and no other code names one."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.source_trees import parse_source
from tests.contract.test_imports import imports, modules, within
from turnout.manifest.schema import manifest_schema
from turnout.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES
from turnout.runtimes.runtime import Runtime

ROOT = Path(__file__).resolve().parent.parent.parent

OWN = {
    "turnout.runtimes": "the rows, and what they read and optimize",
    "turnout.artifacts": "reads ONNX files",
    "turnout.conversion": "makes ONNX models of others",
    "turnout.trials": "sends requests that are known to end onnxruntime's process",
    "turnout.protocol.tensors.fatal_requests": "names the operator, or onnxruntime, that ends the process",
    "turnout.protocol.tensors.datatypes": "the numbers that ONNX gives to datatypes",
    "model_lambdas.onnx_model": "runs ONNX models",
    "infra.aws_check.sample": "deploys the sample models",
    "soak": "makes the models of the server that it attacks",
}
"""Modules and rooms that are about ONNX, or about one runtime, by design."""

every_runtime = pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=lambda runtime: runtime.name)


@every_runtime
def test_runtime_has_a_folder_an_opener_and_a_layer(runtime: Runtime) -> None:
    assert (ROOT / "model_lambdas" / runtime.package / "__init__.py").is_file()
    assert runtime.opener.startswith(f"{runtime.package}.")
    opener = importlib.import_module(f"model_lambdas.{runtime.opener}").Model
    assert callable(opener.run)
    assert "==" in runtime.layer.lock.read_text()
    assert set(runtime.layer.unzipped_bytes) == set(manifest_schema()["$defs"]["architecture"]["enum"])


def test_every_folder_of_model_lambdas_except_the_shared_one_is_a_runtime() -> None:
    folders = {path.parent.name for path in (ROOT / "model_lambdas").glob("*/__init__.py")}
    assert folders == {"function", *(runtime.package for runtime in RUNTIMES.values())}


def test_manifest_schema_lists_exactly_the_runtimes() -> None:
    key = manifest_schema()["$defs"]["version"]["properties"]["runtime"]
    assert key["enum"] == list(RUNTIMES)
    assert key["default"] == DEFAULT_RUNTIME


@every_runtime
def test_runtime_is_not_imported_by_other_code(runtime: Runtime) -> None:
    """The shared part finds it by its opener's name."""
    folder = f"model_lambdas.{runtime.package}"
    rows = [edge for edge in imports() if within(edge.imported, folder) and not within(edge.importer, folder)]
    assert [str(entry) for entry in rows] == []
    own = [edge for edge in imports() if within(edge.importer, folder) and within(edge.imported, "model_lambdas")]
    assert [str(entry) for entry in own if not within(entry.imported, folder, "model_lambdas.function")] == []


def _words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names, attributes, modules and texts without a space, that is, code and not sentences."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.FunctionDef(name=word) | ast.ClassDef(name=word):
                yield line, word
            case ast.Import(names=aliases):
                yield from ((line, alias.name) for alias in aliases)
            case ast.ImportFrom(module=module):
                yield line, module or ""
            case ast.Constant(value=str(text)) if " " not in text.strip():
                yield line, text


def test_no_other_code_names_a_runtime() -> None:
    engines = {runtime.engine for runtime in RUNTIMES.values()} - {""}
    names = {*engines, *(runtime.package for runtime in RUNTIMES.values()), DEFAULT_RUNTIME}
    results = [
        f"{module}:{line}: {word}"
        for module, path in modules().items()
        if not within(module, *OWN) and "template" not in path.parts
        for line, word in _words(parse_source(path))
        if any(name in word.lower() for name in names) and not word.startswith("turnout.artifacts.onnx")
    ]
    assert results == []
