"""The cases of a switch: which of them no value can reach, since an earlier one takes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from turnout.manifest.schema import Finding
from turnout.manifest.tree import mapping, sequence
from turnout.protocol.routing.graph_nodes import COMPARISONS
from turnout.yaml_text.quoting import flow
from turnout.yaml_text.reader import KeyPath

KINDS = {str: "a text", bool: "true or false", int: "a number", float: "a number"}


@dataclass(slots=True)
class _Taken:
    """The values that the cases so far take: single ones, all below `below`, all above `above`."""

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
        """Whether all that a case would take is taken."""
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
        """One more case."""
        match op:
            case "equals":
                self.equals.append(value)
            case "below":
                self.below = max(self.below, value)
            case _:
                self.above = min(self.above, value)


def check_cases(path: KeyPath, switch: dict[str, Any]) -> Iterator[Finding]:
    """Cases of several kinds of values, and those that can never hold."""
    rows = [
        (index, op, case[op])
        for index, case in enumerate(map(mapping, sequence(switch.get("cases"))))
        for op in COMPARISONS
        if type(case.get(op)) in (KINDS if op == "equals" else (int, float))
    ]
    kinds = list(dict.fromkeys(KINDS[type(value)] for _, _, value in rows))
    if len(kinds) > 1:
        message = f"the cases compare with {' and with '.join(kinds)}: no tensor is both"
        yield Finding((*path, "cases"), message, "Compare one tensor with values of one kind.")
        return
    taken = _Taken()
    for index, op, value in rows:
        if taken.takes(op, value):
            message = f"`{op}: {flow(value)}` never holds: earlier cases take all of it"
            yield Finding((*path, "cases", index), message, "Delete the case, or put it before the others.")
        taken.add(op, value)
    if taken.everything and "otherwise" in switch:
        hint = "Delete the last case, and let its step be `otherwise`."
        yield Finding((*path, "otherwise"), "is never reached: the cases take every value", hint)
