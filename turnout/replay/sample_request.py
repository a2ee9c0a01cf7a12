"""Makes the request for a model if the user gives none: one of its examples, or one made from its signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from turnout.artifacts.example_request import count_request, make_request
from turnout.artifacts.examples import Example
from turnout.plan.checks.graphs import graph_signatures
from turnout.problems import TurnoutError
from turnout.protocol.naming import GRAPH

if TYPE_CHECKING:
    from turnout.manifest.parser import Manifest
    from turnout.project.project import Project
    from turnout.protocol.tensors.datatypes import Signature

MOST_ELEMENTS = 20_000_000
"""The most elements of a request made from a signature: more would exceed any server's limit."""


class UnknownNameError(TurnoutError):
    """There is no model, version, stage or example with that name; `hint` lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = get_close_matches(name, names, n=1)
        listed = f"Known {kind.split(maxsplit=1)[0]}s: {', '.join(names)}." if names else f"There is no {kind}."
        super().__init__(f"unknown {kind} {name!r}.", f"Did you mean {close[0]!r}?" if close else listed)


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request for one version.

    Args:
        model: the model's name.
        version: the version it was made for: the given one, or the one that the stage serves; `graph` for a graph.
        stage: the given stage, or the manifest's first.
        request: body of the request.
        example: its example, with the expected answer; `None` if it was made from the signature.
    """

    model: str
    version: str
    stage: str
    request: Mapping[str, Any]
    example: Example | None


def make_sample_request(project: Project, model: str, version: str, stage: str, example: str = "") -> SampleRequest:
    """Return a request for a version, or, if `version` is empty, for the one that the stage serves.

    Args:
        project: the manifest and its artifacts.
        model: the model's name.
        version: the version's name, or empty.
        stage: the stage's name; empty for the first.
        example: the example's name; empty for the first, or for the signature if there are none.

    Raises:
        UnknownNameError: one of the names is unknown.
        ValueError: the examples cannot be read, or there are none and no request can be made.
    """
    manifest = project.manifest
    stage = known("stage", stage or manifest.stages[0].name, [entry.name for entry in manifest.stages])
    model = known("model", model, [entry.name for entry in manifest.models])
    if manifest.model(model).graph is not None:
        return _graph_request(project, model, version, stage, example)
    names = [entry.name for entry in manifest.model(model).versions]
    version = known(f"version of {model}", version or served_version(manifest, stage, model), names)
    declared = manifest.model(model).version(version)
    examples = project.examples_of(declared)
    if not examples and not example:
        artifact = project.artifacts.get((model, version))
        if artifact is None:
            raise ValueError(f"{model} {version} has no examples, and its artifact is not on this machine")
        return SampleRequest(model, version, stage, _made_request(f"{model} {version}", artifact.signature), None)
    by_name = {each.name: each for each in examples}
    chosen = known(f"example of {model} {version}", example or examples[0].name, by_name)
    return SampleRequest(model, version, stage, by_name[chosen].request, by_name[chosen])


def _graph_request(project: Project, model: str, version: str, stage: str, example: str) -> SampleRequest:
    """Return a request made from a graph's signature, since a graph has neither versions nor examples."""
    if version:
        known(f"version of {model}", version, ())
    if example:
        known(f"example of {model}", example, ())
    signature = graph_signatures(project.manifest, project.artifacts)[model]
    return SampleRequest(model, GRAPH, stage, _made_request(model, signature), None)


def _made_request(name: str, signature: Signature) -> dict[str, Any]:
    elements = count_request(signature)
    if elements > MOST_ELEMENTS:
        raise ValueError(f"{name} has no examples, and its smallest request holds {elements:,} values")
    return make_request(signature)


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the name if it is among the names."""
    names = list(names)
    if name not in names:
        raise UnknownNameError(kind, name, names)
    return name


def served_version(manifest: Manifest, stage: str, model: str) -> str:
    """Return the version that gets most of a stage's calls of a model without a version."""
    served = manifest.stage(stage)
    weights = served.weights.get(model)
    return max(weights, key=weights.__getitem__) if weights else served.serve[model]
