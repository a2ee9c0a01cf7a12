"""Requests that would crash the process of a version or never end, detected before the version is served.

onnxruntime crashes the process for some inputs: `FeatureVectorizer` without rows, the smallest integer divided by -1. A
version is tried with such requests in a separate process (turnout/trials); fatal ones are rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Array

NO_END = "no end"
"""The ending of a process that had to be killed because a run could not be stopped."""


@dataclass(frozen=True, slots=True)
class FatalRequest:
    """The pattern of one kind of fatal requests. An empty pattern matches every request.

    Args:
        empty: inputs with the axes of size 0.
        values: inputs with values that they contain, besides any others.
        operator: the operator that crashes the process, by its name in the graph; empty if it is unknown.
        ending: how the process ended, `SIGABRT`, or `NO_END`.
    """

    empty: tuple[tuple[str, int], ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    operator: str = ""
    ending: str = ""

    def matches(self, inputs: Mapping[str, Array]) -> bool:
        """Whether a request has this pattern."""
        return all(_is_empty(inputs.get(name), axis) for name, axis in self.empty) and all(
            _holds(inputs.get(name), value) for name, value in self.values
        )

    def covers(self, other: FatalRequest) -> bool:
        """Whether all requests of the other kind are of this kind, too."""
        return set(self.empty) <= set(other.empty) and set(self.values) <= set(other.values)

    @property
    def sentence(self) -> str:
        """Return `FeatureVectorizer ends the process (SIGABRT) when `a` has no rows`."""
        inputs = [f"`{name}`" for name, axis in self.empty if axis == 0]
        parts = [f"{_and(inputs)} {'has' if len(inputs) == 1 else 'have'} no rows"] if inputs else []
        parts += [f"`{name}` has size 0 in dimension {axis}" for name, axis in self.empty if axis]
        parts += [f"`{name}` holds {value}" for name, value in self.values]
        when = f"when {' and '.join(parts)}" if parts else "for every request"
        effect = "never ends" if self.ending == NO_END else f"ends the process ({self.ending or 'unknown'})"
        return f"{self.operator or 'onnxruntime'} {effect} {when}"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`."""
        return {"empty": self.empty, "values": self.values, "operator": self.operator, "ending": self.ending}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> FatalRequest:
        """Return the pattern that `to_json` wrote."""
        return cls(
            empty=tuple((str(name), int(axis)) for name, axis in fields["empty"]),
            values=tuple((str(name), int(value)) for name, value in fields["values"]),
            operator=str(fields["operator"]),
            ending=str(fields["ending"]),
        )


def refuse_fatal(version: str, fatal: tuple[FatalRequest, ...], inputs: Mapping[str, Array]) -> None:
    """Raise a RequestError if the request is known to crash the process."""
    for kind in fatal:
        if kind.matches(inputs):
            message = f"{version} refuses this request: {kind.sentence}"
            raise RequestError("REFUSED_BY_MODEL", message, reason=kind.sentence, operator=kind.operator)


def _is_empty(array: Array | None, axis: int) -> bool:
    return array is not None and axis < array.ndim and array.shape[axis] == 0


def _holds(array: Array | None, value: int) -> bool:
    return array is not None and bool((array == value).any())


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
