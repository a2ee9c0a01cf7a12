"""Edits models.yaml: start a canary, change its percentage, promote it, end it.

Each function takes the manifest as it was read and returns the edited one, which is parsed once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from turnout.canary.rollout.stage_canaries import choose_models, describe_canary, find_stage, version_of
from turnout.manifest.parser import Canary, Manifest, Stage, make_manifest
from turnout.protocol.routing.choice import parse_route
from turnout.wording import did_you_mean, listed
from turnout.yaml_text.editor import EditError, YamlEdit
from turnout.yaml_text.reader import YamlSource, read_yaml


def start_canary(
    manifest: Manifest,
    stage: str,
    serve: Mapping[str, str],
    percent: float,
    *,
    release: bool = False,
    routed: bool = False,
) -> Manifest:
    """Return the manifest with a new canary on a stage, with more models in its canary, or with routed canaries.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        serve: model -> the version that the canary's share sees; may be empty for a release.
        percent: share of the stage's traffic; for a routed canary, of the model's.
        release: whether the share also gets the new code and routes.
        routed: whether the routers of the models split their traffic.

    Raises:
        EditError: the existing canary cannot be joined, a name is unknown, or a version is already served.
        ProblemsError: the manifest would be invalid.
    """
    target = find_stage(manifest, stage)
    for model in serve:
        _check_free(target, model)
    if target.canary is not None and not routed:
        _check_join(target, target.canary, serve, percent, release=release)
    if not serve and not release:
        raise EditError("the canary would change nothing", "Name a model and a version: --model iris --to v2.")
    for model, version in serve.items():
        _check_version(manifest, target, model, version)
    edit = _edit(manifest)
    if routed:
        _route(edit, target, {model: {"version": version} for model, version in serve.items()}, percent)
    elif target.canary is not None:
        for model, version in serve.items():
            edit.set(("stages", stage, "canary", "serve"), model, version)
    else:
        canary: dict[str, Any] = {"percent": plain_number(percent)}
        canary |= {"serve": dict(serve)} if serve else {}
        canary |= {"release": True} if release else {}
        edit.insert(("stages", stage), "canary", canary)
    return _finish(edit, manifest)


def _route(edit: YamlEdit, stage: Stage, canaries: Mapping[str, Mapping[str, Any]], percent: float) -> None:
    """Add routed canaries: model -> the value of each except its share."""
    entries: dict[str, Any] = {
        model: {"version": fields["version"], "percent": plain_number(percent), **fields}
        for model, fields in canaries.items()
    }
    if not stage.routed:
        edit.insert(("stages", stage.name), "routed_canaries", entries)
        return
    for model, entry in entries.items():
        edit.insert(("stages", stage.name, "routed_canaries"), model, entry)


def _check_free(stage: Stage, model: str) -> None:
    """Raise an EditError if a model has a canary already."""
    own = stage.canary.serve if stage.canary else {}
    if model in stage.routed or model in own:
        canary = stage.with_canary_of(model).canary if model in stage.routed else stage.canary
        assert canary is not None  # it serves the model
        end = f"`turnout canary promote {stage.name} --model {model}` or"
        end = f"End {model}'s first: {end} `turnout canary rollback {stage.name} --model {model}`."
        raise EditError(f"{stage.name} already has a canary: {describe_canary(canary)}", end)


def _check_join(stage: Stage, canary: Canary, serve: Mapping[str, str], percent: float, *, release: bool) -> None:
    """Raise an EditError unless more models can join a stage's canary.

    API Gateway has one canary per stage, with one percentage. Models share it; each is promoted and rolled back
    separately.
    """
    name = stage.name
    has = f"{name} already has a canary: {describe_canary(canary)}"
    if canary.release or release or not serve:
        end = f"End it first: `turnout canary promote {name}` or `turnout canary rollback {name}`."
        raise EditError(has, end)
    if percent != canary.percent:
        share = f"all models of a stage's canary have one percentage, here {canary.percent:g}%"
        raise EditError(f"{has}; {share}", f"Join it at {canary.percent:g}%, or start a routed canary.")


def set_percent(manifest: Manifest, stage: str, percent: float, models: Collection[str] = ()) -> Manifest:
    """Return the manifest with another share for the stage's canary, or for the canaries of these models.

    A model that shares the stage's canary with others is removed from it, and gets a routed canary.

    Raises:
        EditError: the stage has no canary, or none of these models.
        ProblemsError: the manifest would not be right.
    """
    target = find_stage(manifest, stage)
    chosen = choose_models(target, models)
    edit = _edit(manifest)
    for model in chosen:
        if model in target.routed:
            edit.set(("stages", stage, "routed_canaries", model), "percent", plain_number(percent))
    if _is_whole(target, chosen):
        edit.set(("stages", stage, "canary"), "percent", plain_number(percent))
        return _finish(edit, manifest)
    leaving = [model for model in chosen if model not in target.routed]
    if leaving:
        written = _read(manifest).tree["stages"][stage]["canary"]
        judged = {key: value for key, value in written.items() if key not in {"percent", "serve", "release"}}
        for model in leaving:
            edit.remove(("stages", stage, "canary", "serve"), model)
        _route(edit, target, {model: {"version": version_of(target, model), **judged} for model in leaving}, percent)
    return _finish(edit, manifest)


def _is_whole(stage: Stage, chosen: Collection[str]) -> bool:
    """Return whether the models are all of the stage's own canary, or whether it has none and is a release."""
    own = [model for model in chosen if model not in stage.routed]
    return stage.canary is not None and (not chosen or (bool(own) and set(own) == stage.canary.serve.keys()))


def promote_models(manifest: Manifest, stage: str, models: Collection[str]) -> Manifest:
    """Return the manifest in which the stage serves the canary's versions of these models to all callers.

    The stage's canary ends with the last of its models. A model with weights keeps them, all for the promoted version.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        models: models to promote; empty for all of the stage's canary, or for the only routed one.

    Raises:
        EditError: the stage has no canary, or none of these models.
        ProblemsError: the manifest would not be right.
    """
    target = find_stage(manifest, stage)
    chosen = choose_models(target, models)
    edit = _edit(manifest)
    for model in chosen:
        _serve(edit, target, model, version_of(target, model))
    _end(edit, target, chosen)
    return _finish(edit, manifest)


def _end(edit: YamlEdit, stage: Stage, chosen: Collection[str]) -> None:
    """Delete the canaries of the chosen models."""
    routed = [model for model in chosen if model in stage.routed]
    if _is_whole(stage, chosen):
        edit.remove(("stages", stage.name), "canary")
    else:
        for model in chosen:
            if model not in stage.routed:
                edit.remove(("stages", stage.name, "canary", "serve"), model)
    if routed and set(routed) == stage.routed.keys():
        edit.remove(("stages", stage.name), "routed_canaries")
    else:
        for model in routed:
            edit.remove(("stages", stage.name, "routed_canaries"), model)


def return_models(manifest: Manifest, stage: str, serve: Mapping[str, str]) -> Manifest:
    """Return the manifest in which a stage serves to all requests what it served before a promotion.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        serve: model -> a version, or weights as `v1.90,v2.10`.

    Raises:
        EditError: a version was removed, or weights must be written but are no longer in the manifest.
        ProblemsError: the manifest would be invalid.
    """
    target = find_stage(manifest, stage)
    known = {entry.name: [version.name for version in entry.versions] for entry in manifest.models}
    edit = _edit(manifest)
    for model, served in serve.items():
        for version in versions_in(served):
            if version not in known.get(model, ()):
                raise EditError(f"{model} no longer has version {version}", "Add it again with `turnout add`.")
        if "." not in served:
            _serve(edit, target, model, served)
            continue
        if written_weights(target, model) is None:
            hint = f"Add it by hand below stages.{stage}.weights."
            raise EditError(f"{stage} no longer has weights for {model}; it had {served}", hint)
        weights = {version: plain_number(share) for version, share in parse_route(served).items()}
        edit.set(("stages", stage, "weights"), model, weights)
    return _finish(edit, manifest)


def versions_in(served: str) -> tuple[str, ...]:
    """Return the versions in `v1`, or in weights such as `v1.90,v2.10`."""
    return tuple(parse_route(served)) if "." in served else (served,)


def end_canary(manifest: Manifest, stage: str, models: Collection[str] = ()) -> Manifest:
    """Return the manifest without the stage's canary, or without the canaries of these models.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        models: models to roll back; empty for all of the stage's canary, or for the only routed one.

    Raises:
        EditError: the stage has no canary, or none of these models.
    """
    target = find_stage(manifest, stage)
    edit = _edit(manifest)
    _end(edit, target, choose_models(target, models))
    return _finish(edit, manifest)


def plain_number(percent: float) -> int | float:
    """Return a share as users write it: 10, not 10.0."""
    return int(percent) if percent == int(percent) else percent


def _check_version(manifest: Manifest, stage: Stage, model: str, version: str) -> None:
    """Raise an EditError unless the version exists and the stage does not serve it yet."""
    known = {entry.name: [known.name for known in entry.versions] for entry in manifest.models}
    if model not in known:
        raise EditError(f"unknown model {model}{did_you_mean(model, known)}", f"Known models: {listed(known)}.")
    if not known[model]:
        raise EditError(f"{model} is a graph and has no versions", "Move the models that its steps call instead.")
    if version not in known[model]:
        hint = f"{model} has {listed(known[model])}."
        raise EditError(f"{model} has no version {version}{did_you_mean(version, known[model])}", hint)
    weights = written_weights(stage, model)
    served = [stage.serve.get(model)] if weights is None else [name for name, share in weights.items() if share]
    if served == [version]:
        others = [name for name in known[model] if name != version]
        hint = f"{model} also has {listed(others)}." if others else f"Add a new version with `turnout add {model}`."
        raise EditError(f"{stage.name} already serves {model} {version}", hint)


def _serve(edit: YamlEdit, stage: Stage, model: str, version: str) -> None:
    """Make a stage's baseline serve that version: an explicit entry beside `"*": newest`."""
    weights = written_weights(stage, model)
    if weights is None:
        edit.set(("stages", stage.name, "serve"), model, version)
        return
    path = ("stages", stage.name, "weights", model)
    edit.set(path, version, 100)
    for other in weights:
        if other != version:
            edit.remove(path, other)


def written_weights(stage: Stage, model: str) -> Mapping[str, float] | None:
    """Return a model's weights in models.yaml, without the share of a routed canary; None without weights."""
    routed = stage.routed.get(model)
    if routed is None:
        return stage.weights.get(model)
    return routed.baseline if routed.is_weighted else None


def _edit(manifest: Manifest) -> YamlEdit:
    return YamlEdit(_read(manifest))


def _read(manifest: Manifest) -> YamlSource:
    return manifest.read or read_yaml(manifest.path.read_bytes(), source=manifest.source)


def _finish(edit: YamlEdit, manifest: Manifest) -> Manifest:
    """Return the edited manifest after checking that it is valid."""
    return make_manifest(edit.finish(), path=manifest.path)
