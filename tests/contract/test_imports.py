"""Which room may use which, checked for the whole tree."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.builders.source_trees import parse_source

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("turnout", "model_lambdas", "router_lambda", "infra", "soak")

PROTOCOL_NEEDS = {"numpy", "orjson", "pybase64", "simdjson"}
"""Packages that are part of every Lambda zip: the protocol may import nothing else."""

RUNTIME_HAS = {"boto3", "botocore"}
"""The packages in Lambda's runtime for Python."""

LAMBDA_NEEDS = PROTOCOL_NEEDS | {"onnxruntime", "PIL"}
"""Pillow is only in the layers of versions that read images, whose functions import it when they are loaded."""

BASE = ("turnout", "turnout.protocol", "turnout.system", "turnout.http_server")
"""The ground floor, which every room may use: the modules in `turnout` itself, the protocol, the system, HTTP."""

CORE = (
    "turnout.runtimes",
    "turnout.yaml_text",
    "turnout.manifest",
    "turnout.artifacts",
    "turnout.project",
    "turnout.plan",
)
OUTPUTS = ("turnout.openapi", "turnout.packaging", "turnout.trials")
CALLS = ("turnout.client", "turnout.replay")
CANARY = ("turnout.canary", "turnout.canary.rollout", "turnout.canary.observation", "turnout.canary.judging")
GATEWAY = (
    "turnout.gateway",
    "turnout.gateway.workers",
    "turnout.gateway.output",
    "turnout.gateway.editions",
    "turnout.gateway.services",
    "turnout.gateway.docs",
    "turnout.gateway.tracing",
    "turnout.gateway.requests",
    "turnout.gateway.observers",
    "turnout.gateway.api",
    "turnout.gateway.functions.in_process",
    "turnout.gateway.functions.isolated",
    "turnout.gateway.functions",
    "turnout.http_server",
    "turnout.gateway.shared",
    "turnout.gateway.rules",
)
"""From the room that starts everything down to API Gateway's rules; each may use those after it."""


def _below(rooms: tuple[str, ...], room: str) -> tuple[str, ...]:
    return rooms[rooms.index(room) + 1 :]


ROOMS: Mapping[str, tuple[str, ...]] = {
    "turnout": (),
    "turnout.system": (),
    "turnout.http_server": (),
    "turnout.protocol": (),
    "turnout.protocol.tensors": (),
    "turnout.protocol.aws": (),
    "turnout.protocol.codecs": (),
    "turnout.protocol.routing": (),
    "turnout.protocol.requests": (),
    "turnout.protocol.aws_requests": ("turnout.protocol.requests",),
    "turnout.yaml_text": (),
    "turnout.artifacts": (),
    "turnout.runtimes": ("turnout.artifacts",),
    "turnout.manifest": ("turnout.yaml_text", "turnout.runtimes"),
    "turnout.project": ("turnout.yaml_text", "turnout.manifest", "turnout.artifacts", "turnout.runtimes"),
    "turnout.plan": ("turnout.yaml_text", "turnout.manifest", "turnout.artifacts", "turnout.runtimes"),
    "turnout.review": (*CORE, *CALLS),
    "turnout.openapi": ("turnout.artifacts", "turnout.manifest", "turnout.plan"),
    "turnout.trials": ("turnout.manifest", "turnout.artifacts", "turnout.project", "turnout.plan", "turnout.runtimes"),
    "turnout.packaging": (*CORE, "turnout.openapi", "turnout.trials"),
    "turnout.scaffold": (*CORE, "turnout.trials"),
    "turnout.conversion": (*CORE, *OUTPUTS, "turnout.conversion.converters"),
    "turnout.conversion.converters": (),
    "turnout.client": (),
    "turnout.replay": (*CORE, "turnout.client"),
    "turnout.canary.judging": ("turnout.manifest",),
    "turnout.canary.observation": (*CORE, *CALLS, "turnout.canary.judging"),
    "turnout.canary.rollout": (*CORE, *CALLS, *_below(CANARY, "turnout.canary.rollout")),
    "turnout.canary": (*CORE, *CALLS, *_below(CANARY, "turnout.canary")),
    **{room: (*CORE, *OUTPUTS, *_below(GATEWAY, room)) for room in GATEWAY},
    "turnout.console": (*CORE, *CALLS, *CANARY),
    "turnout.cli": (
        *CORE,
        *OUTPUTS,
        *CALLS,
        *CANARY,
        *GATEWAY,
        "turnout.scaffold",
        "turnout.console",
        "turnout.conversion",
        "turnout.review",
    ),
    "infra": (*CORE, *OUTPUTS),
    "infra.aws_check": (*CORE, "turnout.openapi", "turnout.client", "infra"),
    "model_lambdas": (),
    "router_lambda": (),
    "soak": (),
}
"""Room -> the rooms that it may use in addition to BASE. A sub-folder without an entry belongs to its parent's room
only if INSIDE says so: a new folder needs an entry here or there.
"""

INSIDE = {
    "turnout.plan.checks": "turnout.plan",
    "turnout.plan.deployer": "turnout.plan",
    "turnout.plan.estimates": "turnout.plan",
    "turnout.cli.commands": "turnout.cli",
    "turnout.cli.canary": "turnout.cli",
    "turnout.cli.updates": "turnout.cli",
    "turnout.cli.keys": "turnout.cli",
    "turnout.cli.requests": "turnout.cli",
    "infra.observability": "infra",
    "infra.access": "infra",
    "infra.stack": "infra",
    "infra.requests": "infra",
    "router_lambda.general": "router_lambda",
    "router_lambda.graphs": "router_lambda",
    "router_lambda.requests": "router_lambda",
    "model_lambdas.function": "model_lambdas",
    "model_lambdas.function.images": "model_lambdas",
    "model_lambdas.onnx_model": "model_lambdas",
    "model_lambdas.python_model": "model_lambdas",
    "soak.runs": "soak",
    "turnout.conversion.encoders": "turnout.conversion",
    "turnout.conversion.registries": "turnout.conversion",
    "turnout.conversion.converters.networks": "turnout.conversion.converters",
    "turnout.conversion.converters.served": "turnout.conversion.converters",
}
"""Folder -> the room that it is part of."""

MOST_FILES = 15
"""Most modules in one folder, without its `__init__`."""

MOST_LEVELS = 9
"""Most floors of the house, from the command line to the bottom; a folder of `turnout` with its sub-folders counts as
one room.
"""

MOST_GATEWAY_LEVELS = 7
"""Most floors inside `turnout.gateway`."""

HEAVY = {"boto3", "botocore", "onnx", "onnxruntime", "uvloop", "httptools", "ruamel", "jsonschema", "pulumi"}
"""Modules that `turnout --help` must not import."""


@dataclass(frozen=True)
class Import:
    """One import: whether it runs when the module is imported, and whether it is for type checkers only."""

    importer: str
    imported: str
    at_once: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


@cache
def modules() -> Mapping[str, Path]:
    """Every module of ours by its dotted name."""
    results = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            results[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return results


@cache
def imports() -> tuple[Import, ...]:
    """Every import in every module, at any place."""
    return tuple(
        entry for name, path in modules().items() if "template" not in path.parts for entry in _imports_of(name, path)
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

    yield from walk(parse_source(path), at_once=True, typing=False)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that a statement imports; `from package import name` is the module `package.name` if that exists."""
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


def folder_of(name: str) -> str:
    """The folder that contains a module, as a dotted name."""
    return ".".join(modules()[name].relative_to(ROOT).parent.parts)


def room_of(name: str) -> str:
    """The room to which a module of ours belongs."""
    folder = folder_of(name)
    return INSIDE.get(folder, folder)


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it uses, without imports for type checkers."""
    result: dict[str, set[str]] = {room: set() for room in ROOMS}
    for edge in imports():
        if edge.imported in modules() and not edge.typing:
            importer, imported = room_of(edge.importer), room_of(edge.imported)
            if importer != imported:
                result[importer].add(imported)
    return result


def test_the_walk_covers_the_tree() -> None:
    assert {"turnout.plan.planner", "turnout.protocol.tensors.datatypes", "turnout.gateway.api.gateway"} <= set(
        modules()
    )
    assert any(edge.importer == "turnout.plan.planner" and edge.imported == "turnout.plan.values" for edge in imports())
    assert any(not edge.at_once for edge in imports())


@pytest.mark.parametrize(
    ("importer", "allowed", "needs"),
    [
        ("turnout.protocol", ("turnout.protocol",), PROTOCOL_NEEDS),
        ("model_lambdas", ("turnout.protocol", "model_lambdas"), LAMBDA_NEEDS),
        ("router_lambda", ("turnout.protocol", "router_lambda"), PROTOCOL_NEEDS),
        ("infra.observability.guard_rail_function", (), {"boto3", "botocore"}),  # part of Lambda's own runtime
    ],
)
def test_code_in_lambda_zips_imports_nothing_else(importer: str, allowed: tuple[str, ...], needs: set[str]) -> None:
    rows = [edge for edge in imports() if within(edge.importer, importer)]
    assert [str(entry) for entry in rows if ours(entry.imported) and not within(entry.imported, *allowed)] == []
    foreign = {entry.imported.partition(".")[0] for entry in rows if not (ours(entry.imported) or _of_runtime(entry))}
    assert foreign - needs - sys.stdlib_module_names == set()


def _of_runtime(entry: Import) -> bool:
    """Whether it is in Lambda's own runtime and imported only after an asynchronous request."""
    name = entry.imported.partition(".")[0]
    return entry.importer == "turnout.protocol.aws_requests.connect" and name in RUNTIME_HAS and not entry.at_once


def test_every_folder_is_a_room_or_part_of_one() -> None:
    folders = {folder_of(name) for name, path in modules().items() if "template" not in path.parts}
    assert {folder for folder in folders if folder not in ROOMS and folder not in INSIDE} == set()
    assert {room for room in (*ROOMS, *INSIDE, *INSIDE.values()) if room not in folders} == set()


def test_rooms_use_only_the_rooms_in_their_entry() -> None:
    broken = [
        f"{edge} ({room_of(edge.importer)} may not use {room_of(edge.imported)})"
        for edge in imports()
        if edge.imported in modules()
        and room_of(edge.importer) != room_of(edge.imported)
        and not within(room_of(edge.imported), *BASE[1:])
        and room_of(edge.imported) != BASE[0]
        and room_of(edge.imported) not in ROOMS[room_of(edge.importer)]
    ]
    assert broken == []


def floors(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The rooms from the bottom up: each is above all rooms that it uses."""
    left, levels = dict(graph), []
    while left:
        leaves = {room for room, targets in left.items() if not targets}
        assert leaves, f"these rooms use each other in a circle: {sorted(left)}"
        left = {room: targets - leaves for room, targets in left.items() if room not in leaves}
        levels.append(leaves)
    return levels


def main_room(room: str) -> str:
    """`turnout.gateway` for `turnout.gateway.api`; the rooms of BASE count as one, the ground floor."""
    if within(room, *BASE[1:]) or room == BASE[0]:
        return BASE[0]
    return ".".join(room.split(".")[:2]) if within(room, "turnout") else room.partition(".")[0]


def test_imports_between_rooms_have_one_direction() -> None:
    floors(arrows())


def test_the_house_has_few_floors() -> None:
    house: dict[str, set[str]] = {}
    for room, targets in arrows().items():
        used = {main_room(target) for target in targets} - {main_room(room)}
        house.setdefault(main_room(room), set()).update(used)
    assert [sorted(floor) for floor in floors(house)[MOST_LEVELS:]] == []


def test_the_gateway_has_few_floors() -> None:
    inside = {
        room: {target for target in targets if within(target, "turnout.gateway")}
        for room, targets in arrows().items()
        if within(room, "turnout.gateway")
    }
    assert [sorted(floor) for floor in floors(inside)[MOST_GATEWAY_LEVELS:]] == []


def test_folders_have_few_files() -> None:
    counts = Counter(folder_of(name) for name, path in modules().items() if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_every_room_has_a_docstring_about_its_purpose() -> None:
    missing = [
        name
        for name, path in modules().items()
        if path.name == "__init__.py" and "template" not in path.parts and not ast.get_docstring(parse_source(path))
    ]
    assert missing == []


def test_only_the_command_line_imports_the_command_line() -> None:
    rows = [edge for edge in imports() if within(edge.imported, "turnout.cli")]
    assert [str(entry) for entry in rows if not within(entry.importer, "turnout.cli")] == []


def test_only_infra_imports_pulumi() -> None:
    rows = [edge for edge in imports() if within(edge.imported, "pulumi", "pulumi_aws")]
    assert [str(entry) for entry in rows if not within(entry.importer, "infra")] == []


def test_no_module_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for edge in imports():
        if edge.at_once and not edge.typing and edge.imported in graph and edge.imported != edge.importer:
            graph[edge.importer].add(edge.imported)
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert graph == {}


def imports_at_once(*roots: str) -> list[Import]:
    """Return what is imported together with these modules, by them or by our modules that they import."""
    waiting, seen, result = list(roots), set(roots), []
    while waiting:
        name = waiting.pop()
        for edge in imports():
            if edge.importer == name and edge.at_once and not edge.typing:
                result.append(edge)
                if edge.imported in modules() and edge.imported not in seen:
                    seen.add(edge.imported)
                    waiting.append(edge.imported)
    assert len(seen) > 5
    return result


def test_heavy_modules_are_imported_only_when_needed() -> None:
    """Checked for what the command line imports to print its help."""
    edges = imports_at_once("turnout.cli.__main__", "turnout.cli.app")
    assert [str(edge) for edge in edges if edge.imported.partition(".")[0] in HEAVY] == []


def test_a_server_imports_the_queue_and_the_pages_when_they_are_first_used() -> None:
    edges = imports_at_once("turnout.gateway.serve")
    unused = {
        "http.client",
        "jwt",
        "turnout.gateway.docs.layout",
        "turnout.gateway.docs.shown",
        "turnout.gateway.requests.api",
        "turnout.gateway.requests.pump",
        "turnout.gateway.requests.store",
        "turnout.gateway.tracing.tracing",
    }
    assert [str(edge) for edge in edges if edge.imported in unused] == []
    assert "turnout.gateway.requests.queue" in {edge.imported for edge in edges}
