"""Checks of a manifest's graphs that need no signature: their models and steps, and the cases of their switches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from turnout.manifest.schema import Finding
from turnout.manifest.tree import Tree, check_model, check_version, is_graph, mapping, models_of, sequence
from turnout.protocol.routing.graph_nodes import COMPARISONS
from turnout.yaml_text.quoting import flow
from turnout.yaml_text.reader import KeyPath

MOST_NESTED = 10
"""Most levels of nested graphs."""

KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number"}


def check_graphs(tree: Tree) -> Iterator[Finding]:
    """Yield all problems of the graphs except those of tensors."""
    for model, body in models_of(tree).items():
        for path, node in _nodes(mapping(body).get("graph"), ("models", model, "graph")):
            yield from _check_node(tree, path, node)
    yield from _check_nesting(tree)


def _nodes(node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Yield every step of a graph that is a mapping, from the outside in."""
    if not isinstance(node, dict):
        return
    yield path, node
    for key in ("sequence", "ensemble"):
        for index, step in enumerate(sequence(node.get(key))):
            yield from _nodes(step, (*path, key, index))
    switch = mapping(node.get("switch"))
    for index, case in enumerate(sequence(switch.get("cases"))):
        yield from _nodes(mapping(case).get("then"), (*path, "switch", "cases", index, "then"))
    yield from _nodes(switch.get("otherwise"), (*path, "switch", "otherwise"))


def _check_node(tree: Tree, path: KeyPath, node: dict[str, Any]) -> Iterator[Finding]:
    model = node.get("model")
    if isinstance(model, str):
        yield from check_model(tree, (*path, "model"), model)
        yield from check_version(tree, (*path, "version"), model, node.get("version"))
        if is_graph(tree, model) and "version" in node:
            yield Finding((*path, "version"), f"`{model}` is a graph and has no versions", "Delete it.")
    if node.get("fallback") is True and isinstance(model, str) and not is_graph(tree, model):
        own = mapping(mapping(models_of(tree).get(model)).get("routing")).get("fallback")
        if model in models_of(tree) and own is None:
            hint = f"Name one at models.{model}.routing.fallback, or delete it here."
            yield Finding((*path, "fallback"), f"`{model}` has no fallback", hint)
    if len(sequence(node.get("ensemble"))) == 1:
        yield Finding(
            (*path, "ensemble"), "has one member, so there is nothing to combine", "Call it without `ensemble`."
        )
    yield from check_cases((*path, "switch"), mapping(node.get("switch")))


def _check_nesting(tree: Tree) -> Iterator[Finding]:
    """Yield graphs that call themselves through others, each cycle at the call that closes it.

    Also yield graphs that are too deep.
    """
    calls = {
        model: {
            node["model"]: (*path, "model")
            for path, node in _nodes(mapping(body).get("graph"), ("models", model, "graph"))
            if isinstance(node.get("model"), str)
        }
        for model, body in models_of(tree).items()
    }
    while circle := _find_circle(calls):
        caller, called = circle[-2:]
        yield Finding(
            calls[caller].pop(called), f"calls itself in a circle: {' -> '.join(circle)}", "Break the circle."
        )
    depths: dict[str, int] = {}
    for model in TopologicalSorter(calls).static_order():
        if is_graph(tree, model):
            depths[model] = 1 + max((depths.get(called, 0) for called in calls[model]), default=0)
    for model, depth in depths.items():
        if depth > MOST_NESTED:
            message = f"nests graphs {depth} levels deep, at most {MOST_NESTED} are allowed"
            yield Finding(("models", model, "graph"), message)


def _find_circle(calls: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a cycle from a model to itself, caller first; empty if there is none."""
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle[::-1]  # in this order each item calls the next
    return []


@dataclass(slots=True)
class _Taken:
    """The values that previous cases match: single ones, all below `below`, all above `above`."""

    equals: list[Any] = field(default_factory=list)
    below: float = -math.inf
    above: float = math.inf

    @property
    def everything(self) -> bool:
        """Whether no value is left."""
        return (
            self.above < self.below
            or (self.above == self.below and self.above in self.equals)
            or {True, False} <= {value for value in self.equals if isinstance(value, bool)}
        )

    def takes(self, op: str, value: Any) -> bool:
        """Whether everything that a case would match is already matched."""
        if self.everything:
            return True
        match op:
            case "equals":
                return value in self.equals or (not isinstance(value, str) and not self.above >= value >= self.below)
            case "below":
                return bool(value <= self.below)
            case _:
                return bool(value >= self.above)

    def add(self, op: str, value: Any) -> None:
        """Add one case."""
        match op:
            case "equals":
                self.equals.append(value)
            case "below":
                self.below = max(self.below, value)
            case _:
                self.above = min(self.above, value)


def check_cases(path: KeyPath, switch: dict[str, Any]) -> Iterator[Finding]:
    """Yield cases with several kinds of values, and those that can never match."""
    tests = [
        (index, op, case[op])
        for index, case in enumerate(map(mapping, sequence(switch.get("cases"))))
        for op in COMPARISONS
        if type(case.get(op)) in (KINDS if op == "equals" else (int, float))
    ]
    kinds = list(dict.fromkeys(KINDS[type(value)] for _, _, value in tests))
    if len(kinds) > 1:
        message = f"the cases compare with {' and with '.join(kinds)}: no tensor has both types"
        yield Finding((*path, "cases"), message, "Compare one tensor with values of one kind.")
        return
    taken = _Taken()
    for index, op, value in tests:
        if taken.takes(op, value):
            message = f"`{op}: {flow(value)}` never matches: earlier cases match all of its values"
            yield Finding((*path, "cases", index), message, "Delete the case, or move it before the others.")
        taken.add(op, value)
    if taken.everything and "otherwise" in switch:
        hint = "Delete the last case and use its step as `otherwise`."
        yield Finding((*path, "otherwise"), "is never reached: the cases match every value", hint)
