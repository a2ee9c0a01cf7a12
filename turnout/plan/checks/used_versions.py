"""Finds the versions that get traffic by the manifest; all others are kept only for callers who name them."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.manifest.parser import Manifest, Model, Stage
from turnout.protocol.routing.graph_nodes import calls_of


def find_used_versions(manifest: Manifest) -> frozenset[tuple[str, str]]:
    """Return (model, version) of everything that a stage serves, weighs, shadows or tests, or that a graph names."""
    used = {version for stage in manifest.stages for version in _of_stage(stage)}
    return frozenset(used.union(*(_of_model(model) for model in manifest.models)))


def _of_stage(stage: Stage) -> Iterator[tuple[str, str]]:
    yield from stage.serve.items()
    yield from ((model, version) for model, shares in stage.weights.items() for version in shares)
    if stage.canary is not None:
        yield from stage.canary.serve.items()


def _of_model(model: Model) -> Iterator[tuple[str, str]]:
    """Yield a model's versions that get traffic through shadows, fallbacks and graph steps."""
    yield from ((model.name, name) for name in (model.routing.shadow_version, model.routing.fallback) if name)
    if model.graph is not None:
        yield from ((call.model, call.version) for _, call in calls_of(model.graph) if call.version)
