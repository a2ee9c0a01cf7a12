"""Checks the manifest's parts against each other: names that must exist, sums, colliding names.

The tree may violate its schema anywhere. Each rule checks what is well-formed and ignores the rest, which the schema's
check reports; so a user gets both together and nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from turnout.manifest.access_references import check_access
from turnout.manifest.graph_references import check_graphs
from turnout.manifest.lambda_references import check_version_keys
from turnout.manifest.pool_references import check_pools
from turnout.manifest.runtime_references import check_runtime
from turnout.manifest.schema import Finding
from turnout.manifest.tree import (
    Tree,
    check_model,
    check_version,
    is_graph,
    mapping,
    models_of,
    sequence,
    stages_of,
    versions_of,
)
from turnout.protocol import naming
from turnout.wording import listed, shorten
from turnout.yaml_text.reader import KeyPath

REST = "*"
"""The key in a stage's `serve` for every model that is not named."""


STRATEGY_OF = {"steps": "canary", "step_percent": "linear"}
"""Keys that are allowed for only one strategy."""


def check_references(tree: Tree) -> list[Finding]:
    """Yield all contradictions between the parts."""
    findings = [*_names(tree), *_spellings(tree), *check_graphs(tree), *check_judgements(tree), *_asynchronous(tree)]
    findings += check_pools(tree)
    for model in mapping(tree.get("models")):
        findings += _model(tree, model)
    for stage in stages_of(tree):
        findings += _stage(tree, stage)
    return findings


def _names(tree: Tree) -> Iterator[Finding]:
    """Yield names that Turnout itself uses."""
    for model, body in models_of(tree).items():
        if model in naming.RESERVED_MODELS:
            yield _reserved(("models", model), "model")
        for version in mapping(mapping(body).get("versions")):
            if version in naming.RESERVED_VERSIONS:
                yield _reserved(("models", model, "versions", version), "version")
    for stage in stages_of(tree):
        if stage in naming.RESERVED_STAGES:
            yield _reserved(("stages", stage), "stage")


def _asynchronous(tree: Tree) -> Iterator[Finding]:
    """Yield versions with `async: true` if no stage accepts asynchronous requests."""
    if any("async" in mapping(body) for body in stages_of(tree).values()):
        return
    for model in models_of(tree):
        for name, fields in mapping(mapping(models_of(tree)[model]).get("versions")).items():
            if mapping(fields).get("async") is True:
                path = ("models", model, "versions", name, "async")
                yield Finding(path, "no stage accepts asynchronous requests", "Add `async: {}` to a stage.")


def _reserved(path: KeyPath, kind: str) -> Finding:
    return Finding(path, f"`{path[-1]}` is a reserved word", f"Rename the {kind}.")


def _spellings(tree: Tree) -> Iterator[Finding]:
    """Yield models whose stage variables would have the same name."""
    taken: dict[str, str] = {naming.variable_name(model): model for model in models_of(tree)}
    for model in models_of(tree):
        other = taken.get(naming.route_variable_name(model))
        if other is not None:
            message = f"collides with the model `{model}`: `{naming.route_variable_name(model)}` is its stage variable"
            yield Finding(("models", other), message, "Rename one of the two.")


def _model(tree: Tree, model: str) -> Iterator[Finding]:
    """The checks within one model."""
    body = mapping(models_of(tree)[model])
    for version, fields in mapping(body.get("versions")).items():
        yield from _paths(("models", model, "versions", version), mapping(fields))
        yield from check_runtime(("models", model, "versions", version), mapping(fields))
        yield from check_version_keys(("models", model, "versions", version), mapping(fields))
    path = ("models", model, "routing")
    routing = mapping(body.get("routing"))
    yield from check_version(tree, (*path, "fallback"), model, routing.get("fallback"))
    shadow = mapping(routing.get("shadow")).get("version")
    yield from check_version(tree, (*path, "shadow", "version"), model, shadow)
    stages = list(stages_of(tree))
    if stages and isinstance(shadow, str) and all(_serves(tree, stage, model) == {shadow} for stage in stages):
        message = f"shadows itself: every stage serves `{shadow}`"
        yield Finding((*path, "shadow", "version"), message, "Name another version, or delete `shadow`.")


def _paths(path: KeyPath, fields: Tree) -> Iterator[Finding]:
    """The files of a version must be below the manifest's folder, so that it means the same on every machine."""
    artifact = fields.get("artifact")
    if isinstance(artifact, str) and artifact.startswith("s3://") and "sha256" not in fields:
        message = "an artifact on S3 needs `sha256`"
        yield Finding((*path, "artifact"), message, "Add the file's digest: `sha256sum model.onnx` prints it.")
    for key, suffix in (("artifact", ""), ("transform", ".py"), ("examples", ".json")):
        value = fields.get(key)
        if not isinstance(value, str) or value.startswith("s3://") or not value.endswith(suffix):
            continue
        if value.startswith(("/", "~")):
            problem = "must be a path relative to this file's folder"
        elif ".." in PurePosixPath(value).parts:
            problem = "must be below this file's folder, without `..`"
        else:
            continue
        hint = "Copy or link the file into this folder. `turnout add` copies a model."
        yield Finding((*path, key), f'{problem}, got "{shorten(value)}"', hint)


def _stage(tree: Tree, stage: str) -> Iterator[Finding]:
    """Check what one stage configures for the models."""
    path = ("stages", stage)
    body = stages_of(tree)[stage]
    if not isinstance(body, dict):
        return
    serve, weights = mapping(body.get("serve")), mapping(body.get("weights"))
    for model, version in serve.items():
        if model != REST:
            yield from _known(tree, (*path, "serve", model), model, version)
    for model, shares in weights.items():
        yield from _weights(tree, (*path, "weights", model), model, shares)
        if model in serve:
            yield Finding((*path, "serve", model), f"`{model}` is also under `weights`", "Delete one of the two.")
    yield from _left_out(tree, path, body)
    yield from _jwt(path, body)
    yield from check_access(tree, path, body)
    yield from _canary(tree, path, stage, body)
    yield from _routed_canaries(tree, path, stage, body)


def _known(tree: Tree, path: KeyPath, model: str, version: Any) -> Iterator[Finding]:
    """Whether model and version exist and may be named."""
    yield from check_model(tree, path, model)
    yield from check_version(tree, path, model, version)
    if is_graph(tree, model):
        yield Finding(
            path, f"`{model}` is a graph and has no versions", "Delete it here: every stage serves every graph."
        )


def _weights(tree: Tree, path: KeyPath, model: str, shares: Any) -> Iterator[Finding]:
    """Check percentages by version, and their sum."""
    yield from _known(tree, path, model, None)
    if not isinstance(shares, dict) or not shares:
        return
    for version in shares:
        yield from check_version(tree, (*path, version), model, version)
    numbers = [share for share in shares.values() if _is_percent(share)]
    if len(numbers) == len(shares) and not math.isclose(math.fsum(numbers), 100, abs_tol=1e-6):
        yield Finding(path, f"weights must add up to 100, got {math.fsum(numbers):g}")


def _is_percent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _left_out(tree: Tree, path: KeyPath, body: Tree) -> Iterator[Finding]:
    """An unnamed model would be a stage variable without a value, and a 500 on AWS."""
    readable = all(isinstance(body.get(key, {}), dict) for key in ("serve", "weights"))
    named = {**mapping(body.get("serve")), **mapping(body.get("weights"))}
    missing = [model for model in models_of(tree) if model not in named and not is_graph(tree, model)]
    if readable and missing and REST not in named:
        where = (*path, "serve") if "serve" in body else path
        these = "these models" if len(missing) > 1 else "this model"
        names = listed(f"`{model}`" for model in missing)
        hint = f'Name each one under `serve`, or add `"{REST}": newest` to it: the last version listed.'
        yield Finding(where, f"does not name {these}: {names}", hint)


def _jwt(path: KeyPath, body: Tree) -> Iterator[Finding]:
    """Tokens need an issuer, and an issuer is only used for tokens."""
    if body.get("auth") == "jwt" and "jwt" not in body:
        hint = "For example: jwt: {issuer: https://login.example.com, audience: [my-client]}"
        yield Finding((*path, "auth"), "needs `jwt`, which says whose tokens are accepted", hint)
    if body.get("auth", "none") != "jwt" and "jwt" in body:
        yield Finding((*path, "jwt"), "requires `auth: jwt`", "Set `auth: jwt`, or delete it.")


def _canary(tree: Tree, path: KeyPath, stage: str, body: Tree) -> Iterator[Finding]:
    """The canary's share must use other versions, or a new release, or both."""
    canary = body.get("canary")
    if not isinstance(canary, dict):
        return
    serve = canary.get("serve", {})
    for model, version in mapping(serve).items():
        if model == REST:
            yield Finding((*path, "canary", "serve", REST), "a canary must name each model")
        else:
            yield from _known(tree, (*path, "canary", "serve", model), model, version)
    if not isinstance(serve, dict) or canary.get("release", False) is not False:
        return
    if not serve:
        hint = "Name the canary's versions under `serve`, set `release: true`, or delete the canary."
        yield Finding((*path, "canary"), "the canary changes nothing", hint)
    elif all(isinstance(v, str) and _baseline(tree, body, model) == {v} for model, v in serve.items()):
        message = f"the canary changes nothing: {stage} serves {listed(f'{m} {v}' for m, v in serve.items())} already"
        yield Finding((*path, "canary", "serve"), message, "Name another version, or delete the canary.")


def _routed_canaries(tree: Tree, path: KeyPath, stage: str, body: Tree) -> Iterator[Finding]:
    """Check that a routed canary's model is not in the stage's own canary, and its version gets no other requests."""
    joined = mapping(mapping(body.get("canary")).get("serve"))
    for model, canary in mapping(body.get("routed_canaries")).items():
        where = (*path, "routed_canaries", model)
        if model == REST:
            yield Finding(where, "a routed canary must name its model")
            continue
        version = mapping(canary).get("version")
        yield from _known(tree, (*where, "version") if "version" in mapping(canary) else where, model, version)
        if model in joined:
            hint = f"Delete one of the two: {stage}'s canary, or the routed one."
            yield Finding(where, f"`{model}` is in `stages.{stage}.canary.serve` too", hint)
        elif isinstance(version, str) and version in _baseline(tree, body, model):
            message = f"the canary changes nothing: {stage} serves {model} {version} already"
            yield Finding((*where, "version"), message, "Name another version, or delete the canary.")


def _serves(tree: Tree, stage: str, model: str) -> set[str]:
    """Return all versions of the model that the stage's traffic may use; empty if unknown."""
    body = mapping(stages_of(tree).get(stage))
    seen = (
        mapping(mapping(body.get("canary")).get("serve")).get(model),
        mapping(mapping(body.get("routed_canaries")).get(model)).get("version"),
    )
    return _baseline(tree, body, model) | {version for version in seen if isinstance(version, str)}


def _baseline(tree: Tree, body: Tree, model: str) -> set[str]:
    """Return the same without the canary."""
    if model not in models_of(tree):
        return set()
    shares = mapping(body.get("weights")).get(model)
    if isinstance(shares, dict):
        return {version for version, share in shares.items() if share != 0}
    serve = mapping(body.get("serve"))
    if model in serve:
        return {serve[model]} if isinstance(serve[model], str) else set()
    versions = versions_of(tree, model)
    # otherwise a misspelled name may mean this model
    meant = all(name in models_of(tree) for name in serve if name != REST)
    return {versions[-1]} if versions and REST in serve and meant else set()


def check_judgements(tree: Tree) -> Iterator[Finding]:
    """Yield all contradictions within `defaults.canary` and within the stages' canaries."""
    defaults = mapping(mapping(tree.get("defaults")).get("canary"))
    yield from _check(("defaults", "canary"), defaults, defaults.get("strategy", "canary"))
    for stage, body in stages_of(tree).items():
        canary = mapping(mapping(body).get("canary"))
        strategy = canary.get("strategy", defaults.get("strategy", "canary"))
        yield from _check(("stages", stage, "canary"), canary, strategy)
        for model, routed in mapping(mapping(body).get("routed_canaries")).items():
            strategy = mapping(routed).get("strategy", defaults.get("strategy", "canary"))
            yield from _check(("stages", stage, "routed_canaries", model), mapping(routed), strategy)


def _check(path: KeyPath, judgement: dict[str, Any], strategy: Any) -> Iterator[Finding]:
    for key, wanted in STRATEGY_OF.items():
        if key in judgement and isinstance(strategy, str) and strategy != wanted:
            message = f"needs `strategy: {wanted}`, but the strategy is {strategy}"
            yield Finding((*path, key), message, "Delete it, or change the strategy.")
    steps = sequence(judgement.get("steps"))
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if all(isinstance(step, int | float) for step in (before, after)) and after <= before:
            yield Finding((*path, "steps", index), f"must be more than the step before, {before:g}, got {after:g}")
