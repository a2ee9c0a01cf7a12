"""Edits models.yaml: start a canary, change its percentage, promote it, end it.

Each function takes the manifest as it was read and returns the edited one, which is parsed once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from turnout.manifest.parser import Canary, Manifest, Stage, make_manifest
from turnout.protocol.routing.choice import parse_route
from turnout.wording import did_you_mean, listed
from turnout.yaml_text.editor import EditError, YamlEdit
from turnout.yaml_text.reader import read_yaml


def start_canary(
    manifest: Manifest, stage: str, serve: Mapping[str, str], percent: float, *, release: bool = False
) -> Manifest:
    """Return the manifest with a canary on a stage, or with more models in its existing canary.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        serve: model -> the version for the canary's share; may be empty for a release.
        percent: percentage of the stage's traffic.
        release: whether the share also gets the new code and routes.

    Raises:
        EditError: the existing canary cannot be joined, a name is unknown, or a version is already served.
        ProblemsError: the manifest would be invalid.
    """
    target = find_stage(manifest, stage)
    if target.canary is not None:
        _check_join(target, target.canary, serve, percent, release=release)
    if not serve and not release:
        raise EditError("the canary would change nothing", "Name a model and a version: --model iris --to v2.")
    for model, version in serve.items():
        _check_version(manifest, target, model, version)
    if target.canary is not None:
        edit = _edit(manifest)
        for model, version in serve.items():
            edit.set(("stages", stage, "canary", "serve"), model, version)
        return _finish(edit, manifest)
    canary: dict[str, Any] = {"percent": plain_number(percent)}
    canary |= {"serve": dict(serve)} if serve else {}
    canary |= {"release": True} if release else {}
    edit = _edit(manifest)
    edit.insert(("stages", stage), "canary", canary)
    return _finish(edit, manifest)


def _check_join(stage: Stage, canary: Canary, serve: Mapping[str, str], percent: float, *, release: bool) -> None:
    """Raise an EditError unless more models can join a stage's canary.

    API Gateway has one canary per stage, with one percentage. Models share it; each is promoted and rolled back
    separately.
    """
    name = stage.name
    has = f"{name} already has a canary: {describe_canary(canary)}"
    end = f"End it first: `turnout canary promote {name}` or `turnout canary rollback {name}`."
    if canary.release or release or not serve:
        raise EditError(has, end)
    twice = [model for model in serve if model in canary.serve]
    if twice:
        model = twice[0]
        alone = f"`turnout canary promote {name} --model {model}` or `turnout canary rollback {name} --model {model}`"
        raise EditError(has, f"End {model}'s first: {alone}.")
    if percent != canary.percent:
        model, version = next(iter(serve.items()))
        weights = _weights_of(stage, model, version, percent)
        share = f"all models of a stage's canary have one percentage, here {canary.percent:g}%"
        join = f"Omit --percent to join at {canary.percent:g}%, or route {model} by weights of its own"
        raise EditError(f"{has}; {share}", f"{join}: stages.{name}.weights: {weights}.")


def _weights_of(stage: Stage, model: str, version: str, percent: float) -> str:
    """Return the weights that send a share to a version, as they are written in models.yaml."""
    served = stage.serve.get(model)
    shares = {version: percent} if served is None else {served: 100 - percent, version: percent}
    return f"{{{model}: {{{', '.join(f'{name}: {plain_number(share)}' for name, share in shares.items())}}}}}"


def set_percent(manifest: Manifest, stage: str, percent: float) -> Manifest:
    """Return the manifest with another share for the stage's canary.

    Raises:
        EditError: the stage has no canary.
        ProblemsError: the manifest would be invalid.
    """
    find_canary(manifest, stage)
    edit = _edit(manifest)
    edit.set(("stages", stage, "canary"), "percent", plain_number(percent))
    return _finish(edit, manifest)


def promote_models(manifest: Manifest, stage: str, models: Collection[str]) -> Manifest:
    """Return the manifest in which the stage serves the canary's versions of these models to all requests.

    The canary ends with the last of its models. A model with weights keeps them, all on the promoted version.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        models: those to promote; empty for all.

    Raises:
        EditError: the stage has no canary, or its canary does not serve these models.
        ProblemsError: the manifest would be invalid.
    """
    canary = find_canary(manifest, stage)
    _check_tested(stage, canary, models)
    promoted = {model: version for model, version in canary.serve.items() if not models or model in models}
    edit = _edit(manifest)
    for model, version in promoted.items():
        _serve(edit, find_stage(manifest, stage), model, version)
    if promoted.keys() == canary.serve.keys():
        edit.remove(("stages", stage), "canary")
    else:
        for model in promoted:
            edit.remove(("stages", stage, "canary", "serve"), model)
    return _finish(edit, manifest)


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
        if model not in target.weights:
            hint = f"Add it by hand below stages.{stage}.weights."
            raise EditError(f"{stage} no longer has weights for {model}; it had {served}", hint)
        weights = {version: plain_number(share) for version, share in parse_route(served).items()}
        edit.set(("stages", stage, "weights"), model, weights)
    return _finish(edit, manifest)


def versions_in(served: str) -> tuple[str, ...]:
    """Return the versions in `v1`, or in weights such as `v1.90,v2.10`."""
    return tuple(parse_route(served)) if "." in served else (served,)


def end_canary(manifest: Manifest, stage: str, models: Collection[str] = ()) -> Manifest:
    """Return the manifest without the stage's canary, or without these models in it: all requests see their baseline.

    Args:
        manifest: the current manifest.
        stage: the stage's name.
        models: those to roll back; empty for all. The canary ends with the last of its models.

    Raises:
        EditError: the stage has no canary, or its canary does not serve these models.
    """
    canary = find_canary(manifest, stage)
    _check_tested(stage, canary, models)
    edit = _edit(manifest)
    if not models or set(models) == canary.serve.keys():
        edit.remove(("stages", stage), "canary")
    else:
        for model in models:
            edit.remove(("stages", stage, "canary", "serve"), model)
    return _finish(edit, manifest)


def _check_tested(stage: str, canary: Canary, models: Collection[str]) -> None:
    for model in models:
        if model not in canary.serve:
            message = f"the canary of {stage} does not serve {model}{did_you_mean(model, canary.serve)}"
            raise EditError(message, f"Its canary: {describe_canary(canary)}.")


def find_stage(manifest: Manifest, name: str) -> Stage:
    """Return the stage with this name; raise an EditError that lists the known ones if there is none."""
    for stage in manifest.stages:
        if stage.name == name:
            return stage
    names = [stage.name for stage in manifest.stages]
    raise EditError(f"unknown stage {name}{did_you_mean(name, names)}", f"There are: {listed(names)}.")


def find_canary(manifest: Manifest, stage: str) -> Canary:
    """Return the stage's canary; raise an EditError if the stage or its canary does not exist."""
    canary = find_stage(manifest, stage).canary
    if canary is None:
        hint = f"Start one: turnout canary start {stage} --model MODEL --to VERSION --percent 10"
        raise EditError(f"{stage} has no canary", hint)
    return canary


def describe_canary(canary: Canary) -> str:
    """Return text such as `10% see iris v2, digits v2 and the new release`."""
    seen = listed(f"{model} {version}" for model, version in canary.serve.items())
    release = "the new release" if canary.release else ""
    return f"{canary.percent:g}% of requests to {' and '.join(filter(None, (seen, release)))}"


def plain_number(percent: float) -> int | float:
    """Return a share as users write it: 10, not 10.0."""
    return int(percent) if percent == int(percent) else percent


def _check_version(manifest: Manifest, stage: Stage, model: str, version: str) -> None:
    """Raise an EditError unless the version exists and the stage does not serve it yet."""
    known = {entry.name: [known.name for known in entry.versions] for entry in manifest.models}
    if model not in known:
        raise EditError(f"unknown model {model}{did_you_mean(model, known)}", f"There are: {listed(known)}.")
    if not known[model]:
        raise EditError(f"{model} is a graph and has no versions", "Move the models that its steps call instead.")
    if version not in known[model]:
        hint = f"{model} has {listed(known[model])}."
        raise EditError(f"{model} has no version {version}{did_you_mean(version, known[model])}", hint)
    if stage.serve.get(model) == version:
        others = [name for name in known[model] if name != version]
        hint = f"{model} also has {listed(others)}." if others else f"Add a new version with `turnout add {model}`."
        raise EditError(f"{stage.name} already serves {model} {version}", hint)


def _serve(edit: YamlEdit, stage: Stage, model: str, version: str) -> None:
    """Make a stage's baseline serve this version: an explicit entry next to `"*": newest`."""
    if model not in stage.weights:
        edit.set(("stages", stage.name, "serve"), model, version)
        return
    path = ("stages", stage.name, "weights", model)
    edit.set(path, version, 100)
    for other in stage.weights[model]:
        if other != version:
            edit.remove(path, other)


def _edit(manifest: Manifest) -> YamlEdit:
    return YamlEdit(manifest.read or read_yaml(manifest.path.read_bytes(), source=manifest.source))


def _finish(edit: YamlEdit, manifest: Manifest) -> Manifest:
    """Return the edited manifest after checking that it is valid."""
    return make_manifest(edit.finish(), path=manifest.path)
