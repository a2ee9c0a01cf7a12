"""Who may import whom, walked over the whole tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("turnout", "model_lambdas", "router_lambda", "infra")

PROTOCOL_NEEDS = {"numpy", "orjson", "pybase64", "simdjson"}
"""What travels into every Lambda: nothing else may be imported by the protocol."""

LAMBDA_NEEDS = PROTOCOL_NEEDS | {"onnxruntime"}

FOUNDATION = ("turnout.protocol", "turnout.problems", "turnout.protocol.naming")
"""Import nothing of ours but the protocol."""

PLAN = (
    "turnout.plan.checks.agreement_gaps",
    "turnout.plan.auth",
    "turnout.plan.checks.size_estimates",
    "turnout.plan.checks.replacements",
    "turnout.artifacts.example_request",
    "turnout.plan.checks.graphs",
    "turnout.plan.checks.graph_signature",
    "turnout.plan.checks.named_tensors",
    "turnout.plan.checks.notes",
    "turnout.plan.checks.payload",
    "turnout.plan.values",
    "turnout.plan.functions",
    "turnout.plan.as_json",
    "turnout.plan.routes",
    "turnout.plan.planner",
    "turnout.plan.checks.quotas",
    "turnout.plan.stages",
    "turnout.openapi.tensor_schemas",
    "turnout.plan.checks.tensor_unions",
)
DOCUMENT = (
    "turnout.openapi.document",
    "turnout.openapi.general_operations",
    "turnout.openapi.inference_operations",
    "turnout.openapi.public_document",
    "turnout.openapi.schemas",
)
MANIFEST = (
    "turnout.artifacts.cache",
    "turnout.artifacts.artifact",
    "turnout.plan.checks.compatibility",
    "turnout.artifacts.example_checks",
    "turnout.artifacts.examples",
    "turnout.manifest.graph_references",
    "turnout.manifest.judgement",
    "turnout.manifest.judgement_references",
    "turnout.manifest.parser",
    "turnout.manifest.schema",
    "turnout.manifest.tree",
    "turnout.manifest.values",
    "turnout.artifacts.onnx_file",
    "turnout.project.project",
    "turnout.manifest.references",
    "turnout.artifacts.onnx_signature",
    "turnout.manifest.switch_cases",
)

CANARY = (
    "turnout.canary.judging.states",
    "turnout.canary.judging.checks",
    "turnout.canary.judging.observed",
    "turnout.canary.judging.sequential",
)
"""Pure: they know the manifest's judgement and nothing else."""

ROLLOUT = (
    "turnout.canary.rollout.action",
    "turnout.canary.agreement",
    "turnout.canary.rollout.manifest_edits",
    "turnout.canary.report",
    "turnout.canary.run",
    "turnout.canary.rollout.local_stage",
    "turnout.canary.rollout.rollout",
    "turnout.canary.rollout.log",
    "turnout.canary.rollout.stage_changes",
    "turnout.canary.rollout.stage_control",
)
"""What moves a canary: it speaks to a gateway as to AWS, from outside."""

REPLAY = (
    "turnout.replay.comparison",
    "turnout.client.outputs",
    "turnout.client.captured_lines",
    "turnout.client.connection",
    "turnout.replay.replay",
    "turnout.replay.plots",
    "turnout.replay.report",
    "turnout.replay.summary",
)

HEAVY = {"boto3", "botocore", "onnx", "onnxruntime", "uvloop", "httptools", "ruamel", "jsonschema", "pulumi"}
"""What `turnout --help` does not wait for."""


@dataclass(frozen=True)
class Import:
    """One import: whether it runs with the module, and whether it is for type checkers only."""

    importer: str
    imported: str
    at_once: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


@cache
def modules() -> Mapping[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module, wherever it stands."""
    return tuple(
        row for name, path in modules().items() if "template" not in path.parts for row in _imports_of(name, path)
    )


def _imports_of(name: str, path: Path) -> Iterator[Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node: ast.AST, *, at_once: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for imported in _imported(child, package):
                yield Import(name, imported, at_once, typing)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, at_once=at_once and not inside, typing=typing or guarded)

    yield from walk(ast.parse(path.read_bytes()), at_once=True, typing=False)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that a statement imports; `from package import name` is the module `package.name` where it is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in modules() else base


def within(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def broken(importers: tuple[str, ...], forbidden: tuple[str, ...]) -> list[str]:
    return [str(row) for row in imports() if within(row.importer, *importers) and within(row.imported, *forbidden)]


def test_walk_sees_the_tree() -> None:
    assert {"turnout.plan.planner", "turnout.protocol.tensors.datatypes", "turnout.gateway.api.gateway"} <= set(
        modules()
    )
    assert any(row.importer == "turnout.plan.planner" and row.imported == "turnout.plan.values" for row in imports())
    assert any(not row.at_once for row in imports())


@pytest.mark.parametrize(
    ("importer", "allowed", "needs"),
    [
        ("turnout.protocol", ("turnout.protocol",), PROTOCOL_NEEDS),
        ("model_lambdas", ("turnout.protocol", "model_lambdas"), LAMBDA_NEEDS),
        ("router_lambda", ("turnout.protocol", "router_lambda"), PROTOCOL_NEEDS),
        ("infra.observability.guard_rail_function", (), {"boto3", "botocore"}),  # in Lambda's own runtime
    ],
)
def test_what_travels_into_lambdas_stands_alone(importer: str, allowed: tuple[str, ...], needs: set[str]) -> None:
    rows = [row for row in imports() if within(row.importer, importer)]
    assert [str(row) for row in rows if ours(row.imported) and not within(row.imported, *allowed)] == []
    foreign = {row.imported.partition(".")[0] for row in rows if not ours(row.imported)}
    assert foreign - needs - sys.stdlib_module_names == set()


def test_foundation_imports_the_protocol_at_most() -> None:
    rows = [row for row in imports() if within(row.importer, *FOUNDATION) and ours(row.imported)]
    assert [str(row) for row in rows if not within(row.imported, "turnout.protocol")] == []


def test_a_canary_is_judged_without_knowing_how_it_is_served_or_seen() -> None:
    rows = [row for row in imports() if within(row.importer, *CANARY) and ours(row.imported)]
    assert [str(row) for row in rows if not within(row.imported, "turnout.manifest.judgement", *CANARY)] == []


@pytest.mark.parametrize(
    ("importers", "forbidden"),
    [
        (MANIFEST, (*PLAN, *DOCUMENT, "turnout.packaging", "turnout.gateway", "turnout.cli", "infra")),
        (PLAN, (*DOCUMENT, "turnout.project.project", "turnout.packaging", "turnout.gateway", "turnout.cli", "infra")),
        (DOCUMENT, ("turnout.project.project", "turnout.packaging", "turnout.gateway", "turnout.cli", "infra")),
        (
            REPLAY,
            (
                *PLAN,
                *DOCUMENT,
                "turnout.project.project",
                "turnout.packaging",
                "turnout.gateway",
                "turnout.cli",
                "infra",
            ),
        ),
        (ROLLOUT, ("turnout.packaging", "turnout.gateway", "turnout.cli", "infra")),
        (("turnout.gateway",), (*ROLLOUT, "turnout.cli", "infra")),
        (("turnout.observation",), ("turnout.canary.rollout.rollout", "turnout.gateway", "turnout.cli", "infra")),
        (("infra",), ("turnout.cli", "turnout.gateway")),
        (("turnout.cli",), ("infra",)),
        (("turnout",), ("infra", "router_lambda")),
    ],
    ids=["manifest", "plan", "document", "replay", "rollout", "gateway", "observation", "infra", "cli", "turnout"],
)
def test_lower_layers_do_not_know_the_higher_ones(importers: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    assert broken(importers, forbidden) == []


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    rows = [row for row in imports() if within(row.imported, "turnout.cli")]
    assert [str(row) for row in rows if not within(row.importer, "turnout.cli")] == []


def test_pulumi_is_known_to_infra_only() -> None:
    rows = [row for row in imports() if within(row.imported, "pulumi", "pulumi_aws")]
    assert [str(row) for row in rows if not within(row.importer, "infra")] == []


def test_layers_name_modules_that_exist() -> None:
    assert [
        name for name in (*PLAN, *DOCUMENT, *MANIFEST, *FOUNDATION, *CANARY, *ROLLOUT) if name not in modules()
    ] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for row in imports():
        if row.at_once and not row.typing and row.imported in graph and row.imported != row.importer:
            graph[row.importer].add(row.imported)
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert graph == {}


def test_heavy_modules_wait_until_they_are_needed() -> None:
    """Of what the command line imports to print its help."""
    waiting, seen, heavy = ["turnout.cli.__main__", "turnout.cli.app"], set(), []
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for row in imports():
            if row.importer == name and row.at_once and not row.typing:
                if row.imported.partition(".")[0] in HEAVY:
                    heavy.append(str(row))
                elif row.imported in modules() and row.imported not in seen:
                    waiting.append(row.imported)
    assert len(seen) > 5
    assert heavy == []
