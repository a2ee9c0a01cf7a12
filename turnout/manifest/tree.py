"""Reads a manifest's tree that may be wrong anywhere: returns only what is well-formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from turnout.manifest.schema import Finding
from turnout.wording import did_you_mean, listed, shorten
from turnout.yaml_text.reader import KeyPath

Tree = Mapping[str, Any]


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def models_of(tree: Tree) -> dict[str, Any]:
    """Return the models by name, with unchecked values."""
    return mapping(tree.get("models"))


def stages_of(tree: Tree) -> dict[str, Any]:
    """Return the stages by name, with unchecked values."""
    return mapping(tree.get("stages"))


def versions_of(tree: Tree, model: str) -> list[str] | None:
    """Return the model's versions, or None if they cannot be read."""
    versions = mapping(models_of(tree).get(model)).get("versions")
    return list(versions) if isinstance(versions, dict) and versions else None


def is_graph(tree: Tree, model: str) -> bool:
    """Whether the model is a graph, which has no versions."""
    body = mapping(models_of(tree).get(model))
    return "graph" in body and "versions" not in body


def check_model(tree: Tree, path: KeyPath, model: str) -> Iterator[Finding]:
    """Report an unknown model."""
    models = models_of(tree)
    if models and model not in models:
        message = f"unknown model `{shorten(model)}`{did_you_mean(model, models)}"
        yield Finding(path, message, f"Known models: {listed(models)}.")


def check_version(tree: Tree, path: KeyPath, model: str, version: Any) -> Iterator[Finding]:
    """Report an unknown version; nothing if either cannot be read."""
    versions = versions_of(tree, model)
    if not isinstance(version, str) or versions is None or version in versions:
        return
    if version == "newest":
        hint = f'`newest` is only allowed in `serve: {{"*": newest}}`. The newest version of {model} is {versions[-1]}.'
    else:
        hint = f"{model} has {listed(versions)}."
    yield Finding(path, f"unknown version `{shorten(version)}`{did_you_mean(version, versions)}", hint)
