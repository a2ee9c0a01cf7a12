"""Errors with a remedy have one base class, and problems of the manifest get their place in one function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.source_trees import parse_source
from turnout.artifacts.onnx_file import ArtifactError
from turnout.manifest.parser import parse_manifest
from turnout.problems import TurnoutError
from turnout.yaml_text.editor import EditError

ROOT = Path(__file__).resolve().parent.parent

MANIFEST = b"""models:
  echo:
    versions:
      v1: {artifact: echo.onnx}
stages:
  prod:
    serve: {echo: v1}
"""


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path in sorted((ROOT / "turnout").rglob("*.py")):
        for node in ast.walk(parse_source(path)):
            if isinstance(node, ast.ClassDef):
                yield path.name, node


def calls_of(name: str) -> Iterator[tuple[str, ast.Call]]:
    for path in sorted((ROOT / "turnout").rglob("*.py")):
        for node in ast.walk(parse_source(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield path.relative_to(ROOT / "turnout").as_posix(), node


@pytest.mark.parametrize("kind", [ArtifactError, EditError])
def test_the_text_of_an_error_is_its_message(kind: type[TurnoutError]) -> None:
    error = kind("the file is empty", "Export it again.")
    assert (str(error), error.message, error.hint) == ("the file is empty", "the file is empty", "Export it again.")
    assert kind("the file is empty").hint == ""


WITHOUT_TURNOUT = {"RefusedJob", "ImageInputError"}
"""Errors of processes that cannot import `turnout.problems`: a converter's, and a model's function on Lambda. Where
Turnout catches them, they become a TurnoutError or a Problem.
"""


def test_only_one_class_defines_a_message_with_its_remedy() -> None:
    own = [
        f"{file}: {node.name}"
        for file, node in classes()
        if node.name not in WITHOUT_TURNOUT
        and any(
            isinstance(part, ast.Attribute) and part.attr == "hint" and isinstance(part.ctx, ast.Store)
            for part in ast.walk(node)
        )
    ]
    assert own == ["problems.py: TurnoutError"]


def test_places_are_looked_up_in_one_function() -> None:
    """A problem with a line and a column is made only where YAML is read."""
    placed = {file for file, call in calls_of("Problem") if len(call.args) > 3 or {"line", "column"} & _keywords(call)}
    assert placed == {"yaml_text/reader.py", "yaml_text/syntax_errors.py"}


def _keywords(call: ast.Call) -> set[str | None]:
    return {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("models", "echo", "versions", "v1", "artifact"), 4, 12),
        (("models", "echo", "versions", "v1", "memory_mb"), 4, 7),  # not in the file: the version's place
        (("stages", "prod"), 6, 3),
        ((), 1, 1),
    ],
)
def test_a_manifest_places_its_problems(path: tuple[str, ...], line: int, column: int) -> None:
    manifest = parse_manifest(MANIFEST, path=Path("models.yaml"), source="m.yaml")
    problem = manifest.problem(path, "is wrong", "Mend it.")
    assert (problem.source, problem.line, problem.column) == ("m.yaml", line, column)
    assert (problem.path, problem.message, problem.hint) == (path, "is wrong", "Mend it.")
