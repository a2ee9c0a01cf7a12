"""Names of classes and variables: one name for one thing, and the field's term for what a variable holds."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.source_trees import parse_source

ROOT = Path(__file__).resolve().parent.parent.parent

SAME_THING = {
    "Cancellation": "what stops a run: the gateway's protocol, and what the functions hand out",
    "GatewayError": "an error of API Gateway, which routers say in its words on AWS and the gateway here",
    "Model": "a served model in models.yaml; and within a function's zip the open one, by a name that runtimes share",
    "StoredFile": "a model's file in S3, as it is packaged and as a function reads it",
}
"""Names that two packages use for the same thing, because zips share no code with the rest, or that are agreed upon."""

PACKAGES = ("turnout", "infra", "model_lambdas", "router_lambda", "soak", "benchmarks", "scripts", "examples", "tests")

CATCH_ALLS = {
    "told": "Name the message, the problems or the callback.",
    "tell": "Use `print_...`, `notify`, `report` or `send`.",
    "found": "Name the result: the match, the files, the entry.",
    "mark": "Use `start`, `position`, `token` or `fingerprint`.",
    "marks": "Use the plural of one of these.",
    "row": "Name the entry, unless it is a row of a table, a matrix or a tensor (see `TABLES`).",
}
"""Names that say nothing about their value, and the names to use instead."""

MENTION = re.compile(r"told|tell|\b_*(?:found|marks?|row)_*\b", re.IGNORECASE)
"""Text without it defines no such name, and need not be parsed."""

NOWHERE = {"told", "tell"}
"""Those that are not allowed as part of a longer name, either."""

TABLES = {
    "examples/credit/train.py": "a data set's rows",
    "infra/aws_check/command.py": "the table that the command prints",
    "infra/observability/dashboard.py": "a dashboard's rows of widgets",
    "model_lambdas/onnx_model/session.py": "a tensor's rows",
    "scripts/check_locks.py": "a lock's rows",
    "tests/browser/": "the page's tables",
    "tests/gateway/shared/": "tables in shared memory",
    "turnout/cli/commands/build.py": "the table that the command prints",
    "turnout/cli/keys/consumer_keys.py": "the table that the command prints",
    "turnout/cli/output.py": "the table that a command prints",
    "turnout/console/replays.py": "a tensor's rows",
    "turnout/conversion/": "the rows that a model and its graph answer",
    "tests/conversion/": "the rows that a model and its graph answer",
    "tests/gateway/requests/": "rows of the queue's database",
    "turnout/gateway/requests/": "rows of the queue's database",
    "turnout/gateway/docs/html.py": "the page's tables",
    "turnout/gateway/shared/": "tables in shared memory",
    "turnout/protocol/codecs/short_forms.py": "the rows of `instances`",
    "turnout/replay/comparison.py": "a tensor's rows",
    "turnout/replay/report.py": "the report's tables",
}
"""Files and folders where `row` is a real row, and a row of what."""


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Return (line, name) of every variable, parameter, attribute, function and class that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if not name.startswith("test_"):  # test names are sentences
                    yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def catch_all_of(name: str, path: str) -> str:
    """Return the catch-all that a name is or contains; empty if it has none."""
    plain = name.strip("_")
    plain = plain if plain in {"ROW", "Row"} else plain.lower()  # the row of a tensor, and a type
    if plain in CATCH_ALLS:
        is_row = plain == "row" and any(path.startswith(place) for place in TABLES)
        return "" if is_row else plain
    return next((part for part in plain.split("_") if part in NOWHERE), "")


def test_names_describe_their_values() -> None:
    offences = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not MENTION.search(path.read_text()):
                continue
            place = path.relative_to(ROOT).as_posix()
            for line, name in bound_names(parse_source(path)):
                if word := catch_all_of(name, place):
                    offences.append(f"{place}:{line}: `{name}`. {CATCH_ALLS[word]}")
    assert offences == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("told = 1", ["told"]),
        ("def f(row, *, found=1): self._mark = row", ["row", "found", "mark"]),
        ("def tell_error(): pass", ["tell"]),
        ("async def f():\n    for told_of, (row, x) in y: pass", ["told", "row"]),
        ("import x as found", ["found"]),
        ("def test_what_is_told(): pass", []),
        ("x = stream.tell() + pytest.mark.slow + node.start_mark", []),
        ("rows = not_found = 1", []),
    ],
)
def test_catch_alls_are_recognized(source: str, words: list[str]) -> None:
    assert MENTION.search(source) or not words
    names = (name for _, name in bound_names(ast.parse(source)))
    assert sorted(filter(None, (catch_all_of(name, "turnout/x.py") for name in names))) == sorted(words)


def test_every_entry_of_tables_exists() -> None:
    for place in TABLES:
        assert (ROOT / place).exists(), place


def test_public_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for package in ("turnout", "infra", "model_lambdas", "router_lambda"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in parse_source(path).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SAME_THING} == {}
    assert {name for name in SAME_THING if len(places[name]) < 2} == set()
