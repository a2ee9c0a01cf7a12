"""The catalogue's pages: all models, one model, one version.

One page lists all models, so it contains only their names and what the stage serves; tensors are on a model's page,
examples on a version's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.protocol.errors import RequestError
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry, VersionEntry

from .serving import ServedStage

Page = dict[str, Any]


def list_models(catalogue: Catalogue, stage: ServedStage) -> Page:
    """Return every model, in the order of models.yaml."""
    models = [
        _head(model, stage) if model.is_graph else {**_head(model, stage), "versions": list(model.versions)}
        for model in catalogue.models.values()
    ]
    return {"platform": catalogue.platform, **_place(stage), "models": models}


def show_model(model: ModelEntry, stage: ServedStage) -> Page:
    """Return one model with its versions, or the calls of a graph."""
    page: Page = {**_place(stage), **_head(model, stage)}
    if model.routing:
        page["routing"] = model.routing
    if model.is_graph:
        calls = [{"model": name, **({"version": version} if version else {})} for name, version in model.calls]
        return {**page, **model.signature, "calls": calls}
    return {**page, "versions": [_version(model, version, stage) for version in model.versions.values()]}


def show_version(model: ModelEntry, version: VersionEntry, stage: ServedStage) -> Page:
    """Return one version with its examples."""
    return {**_place(stage), "model": model.name, **_version(model, version, stage), "examples": version.examples}


def find_model(catalogue: Catalogue, name: str) -> ModelEntry:
    """Return the model with this name.

    Raises:
        RequestError: UNKNOWN_MODEL.
    """
    model = catalogue.models.get(name)
    if model is None:
        raise RequestError("UNKNOWN_MODEL", f"unknown model `{name[:80]}`; GET /models lists them", got=name[:80])
    return model


def find_version(model: ModelEntry, name: str) -> VersionEntry:
    """Return the version with this name.

    Raises:
        RequestError: UNKNOWN_VERSION.
    """
    version = model.versions.get(name)
    if version is None:
        known = ", ".join(model.versions) or "none, it is a graph"
        message = f"{model.name} has no version `{name[:80]}`; it has {known}"
        raise RequestError("UNKNOWN_VERSION", message, expected=list(model.versions), got=name[:80])
    return version


def _place(stage: ServedStage) -> Page:
    """Return the stage and whether its canary answers: a canary's share may serve other versions than the baseline."""
    return {"stage": stage.name, "canary": stage.is_canary}


def _head(model: ModelEntry, stage: ServedStage) -> Page:
    return {
        "name": model.name,
        **_described(model.description),
        "endpoint": f"{stage.base}/models/{model.name}/inference",
        **({"graph": True} if model.is_graph else {"serves": _serves(stage.shares_of(model))}),
    }


def _serves(shares: Mapping[str, float]) -> list[Page]:
    return [{"version": version, "percent": percent} for version, percent in shares.items()]


def _version(model: ModelEntry, version: VersionEntry, stage: ServedStage) -> Page:
    return {
        "name": version.name,
        **_described(version.description),
        "endpoint": f"{stage.base}/models/{model.name}/{version.name}/inference",
        "percent": stage.shares_of(model).get(version.name, 0),
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        **({"source": version.source} if version.source else {}),
        **version.signature,
    }


def _described(description: str) -> Page:
    return {"description": description} if description else {}
