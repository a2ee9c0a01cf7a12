"""A model that is a graph of calls: its steps as frozen values.

Comes in: the tree that stands under `graph` in models.yaml and, in the same spelling, in a router's `routes.json`.
Goes out: nodes. Called by the manifest, the plan's checks and the router that runs the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

EVERY_OUTPUT = "*"
"""In `combine`: the outputs that are not named."""


@dataclass(frozen=True, slots=True)
class CallNode:
    """A call of a model.

    Args:
        model: its name; it may be a graph, too.
        version: its version; empty for the one that the stage serves.
        inputs: the call's input -> the tensor before the step that it is, where that has another name.
        outputs: the call's output -> the tensor's name after the step, where that is another one.
    """

    model: str
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """Steps one after the other: what one gives is what the next one gets."""

    steps: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class EnsembleNode:
    """Steps at the same time, each with the same inputs.

    Args:
        members: the steps.
        combine: output, or `EVERY_OUTPUT` -> `mean`, `vote` or `concatenate`.
    """

    members: tuple[Node, ...]
    combine: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """A case of a switch: `op` is `equals`, `below` or `above`."""

    op: str
    value: str | float | bool
    then: Node


@dataclass(frozen=True, slots=True)
class SwitchNode:
    """The first case that holds for the one element of `input`, else `otherwise`."""

    input: str
    cases: tuple[Case, ...]
    otherwise: Node


Node = CallNode | SequenceNode | EnsembleNode | SwitchNode

CASE_OPS = ("equals", "below", "above")


def read_node(row: Mapping[str, Any]) -> Node:
    """The node that a tree spells; the tree has been checked by the manifest's schema."""
    if "sequence" in row:
        return SequenceNode(tuple(map(read_node, row["sequence"])))
    if "ensemble" in row:
        combine = row["combine"]
        words = {EVERY_OUTPUT: combine} if isinstance(combine, str) else dict(combine)
        return EnsembleNode(tuple(map(read_node, row["ensemble"])), words)
    if "switch" in row:
        switch = row["switch"]
        return SwitchNode(switch["input"], tuple(map(_read_case, switch["cases"])), read_node(switch["otherwise"]))
    return CallNode(row["model"], row.get("version", ""), dict(row.get("inputs", {})), dict(row.get("outputs", {})))


def _read_case(row: Mapping[str, Any]) -> Case:
    op = next(op for op in CASE_OPS if op in row)
    return Case(op, row[op], read_node(row["then"]))


def spell_node(node: Node) -> dict[str, Any]:
    """The tree that `read_node` reads back."""
    match node:
        case SequenceNode(steps):
            return {"sequence": [spell_node(step) for step in steps]}
        case EnsembleNode(members, combine):
            return {"ensemble": [spell_node(member) for member in members], "combine": dict(combine)}
        case SwitchNode(name, cases, otherwise):
            rows = [{case.op: case.value, "then": spell_node(case.then)} for case in cases]
            return {"switch": {"input": name, "cases": rows, "otherwise": spell_node(otherwise)}}
        case CallNode(model, version, inputs, outputs):
            row: dict[str, Any] = {"model": model}
            named = {"version": version, "inputs": dict(inputs), "outputs": dict(outputs)}
            return row | {key: value for key, value in named.items() if value}


def calls_of(node: Node) -> Iterator[CallNode]:
    """Every call in a graph, in the order of the file; those of graphs that it calls are not among them."""
    match node:
        case CallNode():
            yield node
        case SequenceNode(steps):
            for step in steps:
                yield from calls_of(step)
        case EnsembleNode(members, _):
            for member in members:
                yield from calls_of(member)
        case SwitchNode(_, cases, otherwise):
            for case in cases:
                yield from calls_of(case.then)
            yield from calls_of(otherwise)
