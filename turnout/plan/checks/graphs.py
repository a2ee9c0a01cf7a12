"""Plans the graphs: each with its signature, or with its conflicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from turnout.artifacts.artifact import Artifact
from turnout.manifest.parser import CallNode, Manifest, Model
from turnout.plan.checks.graph_signature import signature_of_graph
from turnout.plan.checks.named_tensors import Signatures
from turnout.plan.checks.replacements import served_anywhere
from turnout.plan.values import ServedGraph
from turnout.problems import Problem, ProblemsError
from turnout.protocol.routing.graph_nodes import calls_of
from turnout.protocol.tensors.datatypes import Signature

UNKNOWN = Signature((), ())
"""The signature of a graph that is unknown."""


def plan_graphs(manifest: Manifest, signatures: Signatures) -> tuple[tuple[ServedGraph, ...], tuple[Problem, ...]]:
    """Return every graph of the manifest, in its order.

    Args:
        manifest: checked by `parse_manifest`: called models exist, and none calls itself.
        signatures: (model, version) -> its signature; a version that was not read is reported elsewhere.
    """
    reader = _Reader(manifest, signatures)
    graphs = tuple(
        ServedGraph(model.name, model.graph, reader.signature_of(model) or UNKNOWN)
        for model in manifest.models
        if model.graph is not None
    )
    return graphs, (*reader.problems, *_check_readable(manifest))


def graph_signatures(manifest: Manifest, artifacts: Mapping[tuple[str, str], Artifact]) -> dict[str, Signature]:
    """Return the signature of each graph.

    Raises:
        ProblemsError: a graph has a conflict.
    """
    graphs, problems = plan_graphs(manifest, {key: artifact.signature for key, artifact in artifacts.items()})
    if problems:
        raise ProblemsError(problems)
    return {graph.model: graph.signature for graph in graphs}


class _Reader:
    """Makes the signatures of graphs, and reports the problems of each once, even if it is called several times."""

    def __init__(self, manifest: Manifest, signatures: Signatures) -> None:
        self.problems: list[Problem] = []
        self._manifest = manifest
        self._signatures = signatures
        self._known: dict[str, Signature | None] = {}

    def signature_of(self, model: Model) -> Signature | None:
        """Return a graph's signature; None if something that it calls was not read."""
        if model.name not in self._known and model.graph is not None:
            path = ("models", model.name, "graph")
            signature, findings = signature_of_graph(model.graph, self._signatures_of, path)
            self._known[model.name] = signature
            for finding in findings:
                self.problems.append(self._manifest.problem(finding.path, finding.message, finding.hint))
        return self._known[model.name]

    def _signatures_of(self, call: CallNode) -> Sequence[Signature]:
        model = self._manifest.model(call.model)
        if model.graph is not None:
            signature = self.signature_of(model)
            return [] if signature is None else [signature]
        versions = versions_met(self._manifest, call)
        known = [self._signatures.get((model.name, version)) for version in versions]
        return [signature for signature in known if signature is not None] if None not in known else []


def versions_met(manifest: Manifest, call: CallNode) -> tuple[str, ...]:
    """Return the versions that a call of a model may reach: its own, or those that any stage serves."""
    return (call.version,) if call.version else tuple(dict.fromkeys(served_anywhere(manifest, call.model)))


def _check_readable(manifest: Manifest) -> Iterator[Problem]:
    """Report calls of versions whose artifacts are in S3 and were not read: such a graph cannot be checked."""
    for model in manifest.models:
        for path, call in calls_of(model.graph, ("models", model.name, "graph")) if model.graph else ():
            called = manifest.model(call.model)
            for version in versions_met(manifest, call) if called.versions else ():
                if called.version(version).is_remote:
                    message = f"{call.model} {version} is in S3: its inputs and outputs are not known"
                    hint = "A graph can only call models whose artifacts are on this machine."
                    yield manifest.problem(path, message, hint)
