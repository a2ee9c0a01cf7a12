"""Checks that versions that replace others have compatible signatures.

Canaries, weights, shadows and fallbacks send a request for one version to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from turnout.manifest.parser import Manifest, Model, Node, Stage
from turnout.plan.checks.compatibility import check_drop_in
from turnout.plan.values import Note
from turnout.problems import Problem
from turnout.protocol.routing.graph_nodes import calls_of
from turnout.protocol.tensors.datatypes import Signature
from turnout.wording import listed
from turnout.yaml_text.reader import KeyPath


@dataclass(frozen=True, slots=True)
class Replacement:
    """`target` answers requests for `baseline` because of `path` in the manifest.

    Args:
        model: the model's name.
        baseline: the version that the requests are for.
        target: the version that answers them.
        path: the key in the manifest that causes it.
        moved: the stages that `"*": newest` moves from `baseline` to `target`; empty for the other kinds.
    """

    model: str
    baseline: str
    target: str
    path: KeyPath
    moved: tuple[str, ...] = ()


def baselines_of(stage: Stage, model: str) -> tuple[str, ...]:
    """Return the versions that a stage's baseline sends a model's traffic to."""
    weights = stage.weights.get(model)
    return (stage.serve[model],) if weights is None else tuple(weights)


def find_replacements(manifest: Manifest) -> Iterator[Replacement]:
    """Return every replacement in the manifest once, in the order models, stages."""
    for model in manifest.models:
        yield from _newest_replacements(manifest, model)
        yield from _routing_replacements(manifest, model)
        if model.graph is not None:
            yield from _step_replacements(manifest, model.graph, ("models", model.name, "graph"))
    for stage in manifest.stages:
        for name, weights in stage.weights.items():
            routed = stage.routed.get(name)
            first, *others = weights if routed is None else routed.baseline
            for other in others:
                yield Replacement(name, first, other, ("stages", stage.name, "weights", name, other))
        for name, canary in stage.routed.items():
            for baseline in canary.baseline:
                path = ("stages", stage.name, "routed_canaries", name, "version")
                yield Replacement(name, baseline, canary.version, path)
        for name, target in (stage.canary.serve if stage.canary else {}).items():
            for baseline in baselines_of(stage, name):
                yield Replacement(name, baseline, target, ("stages", stage.name, "canary", "serve", name))


def _newest_replacements(manifest: Manifest, model: Model) -> Iterator[Replacement]:
    """Yield the replacements of added versions: every stage with `"*": newest` moves from the version before."""
    moved = tuple(stage.name for stage in manifest.stages if model.name in stage.newest)
    if moved and len(model.versions) > 1:
        before, newest = (version.name for version in model.versions[-2:])
        yield Replacement(model.name, before, newest, ("models", model.name, "versions", newest), moved)


def _routing_replacements(manifest: Manifest, model: Model) -> Iterator[Replacement]:
    """Yield the replacements by shadows and fallbacks: they may get requests for any version that some stage serves."""
    routing, root = model.routing, ("models", model.name, "routing")
    targets = ((routing.shadow_version, (*root, "shadow", "version")), (routing.fallback, (*root, "fallback")))
    for target, path in targets:
        if target:
            for baseline in dict.fromkeys(served_anywhere(manifest, model.name)):
                yield Replacement(model.name, baseline, target, path)


def _step_replacements(manifest: Manifest, graph: Node, root: KeyPath) -> Iterator[Replacement]:
    """Yield the replacements of graph steps that name a version and use the model's fallback."""
    for path, call in calls_of(graph, root):
        fallback = manifest.model(call.model).routing.fallback
        if call.fallback and fallback:
            yield Replacement(call.model, call.version, fallback, (*path, "fallback"))


def served_anywhere(manifest: Manifest, model: str) -> Iterator[str]:
    """Return the versions that a stage or its canary serves: those that a call without a version may reach."""
    for stage in manifest.stages:
        yield from baselines_of(stage, model)
        if stage.canary and model in stage.canary.serve:
            yield stage.canary.serve[model]


def check_replacements(
    manifest: Manifest, signatures: Mapping[tuple[str, str], Signature]
) -> tuple[tuple[Problem, ...], tuple[Note, ...]]:
    """Yield the differences between each target and the version it replaces; skip versions without a signature."""
    problems: list[Problem] = []
    notes: list[Note] = []
    breaking = {
        (model.name, version.name) for model in manifest.models for version in model.versions if version.breaking
    }
    for replacement in find_replacements(manifest):
        baseline, target = (
            signatures.get((replacement.model, replacement.baseline)),
            signatures.get((replacement.model, replacement.target)),
        )
        if replacement.baseline == replacement.target:
            continue
        if baseline is None or target is None:
            if replacement.moved and (replacement.model, replacement.target) not in breaking:
                unread = f"cannot check whether `{replacement.target}` is compatible with `{replacement.baseline}`"
                notes.append(Note(".".join(map(str, replacement.path)), f"{_moves(replacement)}: {unread}"))
            continue
        for difference in check_drop_in(baseline, target):
            sentence = f"`{replacement.target}` is incompatible with `{replacement.baseline}`: {difference}"
            if replacement.moved:
                sentence = f"{sentence}. {_moves(replacement)}"
            if (replacement.model, replacement.target) in breaking:
                notes.append(Note(".".join(map(str, replacement.path)), f"{sentence}; allowed by `breaking: true`"))
            else:
                problems.append(_problem(manifest, replacement, sentence))
    return tuple(problems), tuple(notes)


def _moves(replacement: Replacement) -> str:
    """Return a phrase that says which version `"*": newest` replaces in which stages."""
    model, baseline = replacement.model, replacement.baseline
    return f'`"*": newest` moves {listed(replacement.moved)} from {model} {baseline} to {replacement.target}'


def _problem(manifest: Manifest, replacement: Replacement, sentence: str) -> Problem:
    allowed = f"`breaking: true` at models.{replacement.model}.versions.{replacement.target}"
    if replacement.moved:
        stages = listed(f"stages.{name}" for name in replacement.moved)
        allowed += f" (`turnout add --breaking`), or serve `{replacement.model}: {replacement.baseline}` in {stages}"
    remedy = f"If every caller is ready for it, set {allowed}."
    return manifest.problem(replacement.path, sentence, remedy)
