"""A new version in models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.manifest.parser import Manifest, parse_manifest
from turnout.manifest.references import REST
from turnout.yaml_text.editor import EditError, insert_entry
from turnout.yaml_text.reader import read_yaml


def add_version(text: str, model: str, version: str, fields: Mapping[str, Any], *, source: str = "models.yaml") -> str:
    """The manifest with one more version, the newest of its model.

    A model that is not there is made, and every stage that does not serve `"*": newest` then serves it: a stage that
    leaves a model out is not right. `serving_changes` tells what that means.

    Args:
        text: the manifest.
        model: the model's name.
        version: the version's name.
        fields: what stands in the version: `artifact`, `sha256` and so on, in this order.
        source: the file's name, for messages.

    Raises:
        EditError: the version is there already, or the file is laid out in a way that cannot be edited.
        ProblemsError: the manifest is not right, or would not be with this version.
    """
    manifest = parse_manifest(text.encode(), path=Path(source), source=source)
    versions = {row.name: [v.name for v in row.versions] for row in manifest.models}
    if any(row.name == model and row.graph is not None for row in manifest.models):
        raise EditError(f"{model} is a graph: it has no versions", "Give the new model another name.")
    if version in versions.get(model, ()):
        raise EditError(f"{model} has a version {version} already", "A version is immutable: give it a new name.")
    if model in versions:
        text = insert_entry(text, ("models", model, "versions"), version, dict(fields))
    else:
        text = insert_entry(text, ("models",), model, {"versions": {version: dict(fields)}})
        for stage, body in read_yaml(text.encode(), source=source).tree["stages"].items():
            if "serve" not in body:
                text = insert_entry(text, ("stages", stage), "serve", {model: version})
            elif REST not in body["serve"]:
                text = insert_entry(text, ("stages", stage, "serve"), model, version)
    parse_manifest(text.encode(), path=Path(source), source=source)
    return text


def serving_changes(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """What the stages serve now and did not before, a phrase each: `dev serves iris v3, and served v2`."""
    changes = []
    for stage in after.stages:
        old = next((row.serve for row in before.stages if row.name == stage.name), {})
        for model, version in stage.serve.items():
            if old.get(model) != version:
                was = f", and served {old[model]}" if model in old else ""
                changes.append(f"{stage.name} serves {model} {version}{was}")
    return tuple(changes)
