"""Graphs of calls: a model whose answer is made from other models' answers, as in the manifest's `graph`.

A node has inputs and outputs with names. A call takes its model's inputs and returns all outputs. In a sequence, each
step gets the outputs of the step before, and the first one gets the graph's inputs. An ensemble's members and a
switch's cases get the node's inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

EVERY_OUTPUT = "*"
"""In an ensemble's `combine`: every output without its own entry."""

NodePath = tuple[str | int, ...]
"""Keys from a graph to one of its nodes."""


@dataclass(frozen=True, slots=True)
class CallNode:
    """One call.

    Args:
        model: the model's name; it may be a graph itself.
        version: its version; empty for the one that the stage serves.
        inputs: input -> name of the tensor for it; an input without an entry gets the tensor of its own name.
        outputs: output -> name of the tensor after the call; an output without an entry keeps its own name.
        fallback: whether the model's `fallback` may answer if `version` fails; without a version it always may.
    """

    model: str
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """Steps that run one after the other."""

    steps: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class EnsembleNode:
    """Steps that run at the same time.

    `combine` has `mean`, `vote` or `concatenate` for each output, `*` for all others.
    """

    members: tuple[Node, ...]
    combine: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a switch: `op` is `equals`, `below` or `above`."""

    op: str
    value: str | float | bool
    then: Node


@dataclass(frozen=True, slots=True)
class SwitchNode:
    """Chooses the first case that is true for the tensor `input`, which has one element."""

    input: str
    cases: tuple[Case, ...]
    otherwise: Node


Node = CallNode | SequenceNode | EnsembleNode | SwitchNode

COMPARISONS = ("equals", "below", "above")


def build_node(fields: Mapping[str, Any]) -> Node:
    """Return the node of a valid tree."""
    match fields:
        case {"sequence": steps}:
            return SequenceNode(tuple(map(build_node, steps)))
        case {"ensemble": members, "combine": combine}:
            words = {EVERY_OUTPUT: combine} if isinstance(combine, str) else dict(combine)
            return EnsembleNode(tuple(map(build_node, members)), words)
        case {"switch": {"input": name, "cases": cases, "otherwise": otherwise}}:
            return SwitchNode(name, tuple(map(_case, cases)), build_node(otherwise))
    return CallNode(
        fields["model"],
        fields.get("version", ""),
        dict(fields.get("inputs", {})),
        dict(fields.get("outputs", {})),
        fields.get("fallback", False),
    )


def _case(fields: Mapping[str, Any]) -> Case:
    op = next(op for op in COMPARISONS if op in fields)
    return Case(op, fields[op], build_node(fields["then"]))


def spell_node(node: Node) -> dict[str, Any]:
    """Return a tree for `build_node`."""
    match node:
        case SequenceNode(steps):
            return {"sequence": [spell_node(step) for step in steps]}
        case EnsembleNode(members, combine):
            return {"ensemble": [spell_node(member) for member in members], "combine": dict(combine)}
        case SwitchNode(name, cases, otherwise):
            spelled = [{case.op: case.value, "then": spell_node(case.then)} for case in cases]
            return {"switch": {"input": name, "cases": spelled, "otherwise": spell_node(otherwise)}}
        case CallNode(model, version, inputs, outputs, fallback):
            fields: dict[str, Any] = {"model": model}
            named = {"version": version, "inputs": dict(inputs), "outputs": dict(outputs), "fallback": fallback}
            return fields | {key: value for key, value in named.items() if value}


def children_of(node: Node) -> Iterator[tuple[NodePath, Node]]:
    """Return the nodes within a node, each with the keys that lead to it."""
    match node:
        case SequenceNode(steps):
            yield from ((("sequence", index), step) for index, step in enumerate(steps))
        case EnsembleNode(members):
            yield from ((("ensemble", index), member) for index, member in enumerate(members))
        case SwitchNode(_, cases, otherwise):
            yield from ((("switch", "cases", index, "then"), case.then) for index, case in enumerate(cases))
            yield ("switch", "otherwise"), otherwise


def calls_of(node: Node, path: NodePath = ()) -> Iterator[tuple[NodePath, CallNode]]:
    """Yield every call of a graph, each with the keys that lead to it from `path`."""
    if isinstance(node, CallNode):
        yield path, node
    for keys, child in children_of(node):
        yield from calls_of(child, (*path, *keys))
