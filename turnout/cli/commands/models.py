"""`turnout models`: lists the manifest's models, their versions and tensors, and the stages that serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load
from turnout.cli.output import say_json, say_table
from turnout.wording import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.artifacts.artifact import Artifact
    from turnout.manifest.parser import Manifest, Version
    from turnout.project.project import Project
    from turnout.protocol.tensors.datatypes import Signature, TensorSpec

HEADERS = ("MODEL", "VERSION", "SIZE", "DIGEST", "SERVED BY", "SOURCE", "TENSORS")
"""SOURCE is left out if no version has one."""


def models(*, manifest: ManifestOption = DEFAULT_MANIFEST, as_json: JsonOption = False) -> None:
    """List the models and their versions.

    Shows tensors, digests, sizes, and the stages that serve each version. A free dimension is shown by its name, or as
    -1 if it has none. `prod 10%` is the share of a canary or a weight. If `turnout add` fetched or
    converted a version, SOURCE shows where it came from.
    """
    project = load(manifest)
    if as_json:
        say_json({"models": [model_to_json(project, model.name) for model in project.manifest.models]})
        return
    lines = list(table_rows(project))
    columns = [*zip(HEADERS, *lines, strict=True)]
    shown = [column for column in columns if column[0] != "SOURCE" or any(column[1:])]
    headers, *others = zip(*shown, strict=True)
    say_table(headers, others, right=("SIZE",))


def table_rows(project: Project) -> Iterator[tuple[str, ...]]:
    """Yield a line per tensor; the version's own columns are on its first line."""
    from turnout.plan.checks.graphs import graph_signatures

    graphs = graph_signatures(project.manifest, project.artifacts)
    for model in project.manifest.models:
        if model.name in graphs:
            first, *others = tensor_texts(graphs[model.name])
            yield (model.name, "graph", "", "", "every stage", "", first)
            yield from (("", "", "", "", "", "", tensor) for tensor in others)
        for version in model.versions:
            artifact = artifact_of(project, version)
            served = ", ".join(served_by(project.manifest, version)) or "-"
            sha256 = artifact.sha256 if artifact else version.sha256
            size = size_text(artifact.size_bytes) if artifact else "?"
            first, *others = tensor_texts(artifact.signature) if artifact else ["?"]
            source = version.source.to_text() if version.source else ""
            yield (model.name, version.name, size, sha256[:12], served, source, first)
            yield from (("", "", "", "", "", "", tensor) for tensor in others)


def tensor_texts(signature: Signature) -> list[str]:
    """Return the inputs, then the outputs, of which there is at least one."""
    inputs = [f"in {tensor_text(tensor)}" for tensor in signature.inputs]
    return [*inputs, *(f"out {tensor_text(tensor)}" for tensor in signature.outputs)]


def tensor_text(tensor: TensorSpec) -> str:
    """Return `image FP32 [batch,1,8,8]`, with `?` after the name of an optional input."""
    name = tensor.name if tensor.required else f"{tensor.name}?"
    if tensor.shape is None:
        return f"{name} {tensor.datatype} [...]"
    names = tensor.dimension_names or (None,) * len(tensor.shape)
    dimensions = ",".join(
        named if size == -1 and named else str(size) for size, named in zip(tensor.shape, names, strict=True)
    )
    return f"{name} {tensor.datatype} [{dimensions}]"


def served_by(manifest: Manifest, version: Version) -> list[str]:
    """Return the stages that send unversioned calls to a version: `dev`, or with a share, `prod 10%`."""
    served = []
    for stage in manifest.stages:
        weight = stage.weights.get(version.model, {stage.serve.get(version.model, ""): 100.0}).get(version.name, 0.0)
        share = weight
        if stage.canary and version.model in stage.canary.serve:
            seen = 100.0 if stage.canary.serve[version.model] == version.name else 0.0
            share = (weight * (100.0 - stage.canary.percent) + seen * stage.canary.percent) / 100.0
        if share:
            served.append(stage.name if share == 100.0 else f"{stage.name} {share:g}%")
    return served


def artifact_of(project: Project, version: Version) -> Artifact | None:
    """Return the artifact of a version; `None` if it is not on this machine."""
    return project.artifacts.get((version.model, version.name))


def model_to_json(project: Project, name: str) -> dict[str, Any]:
    """Return one model for programs."""
    model = project.manifest.model(name)
    versions = []
    for version in model.versions:
        artifact = artifact_of(project, version)
        entry: dict[str, Any] = {"version": version.name, "artifact": version.artifact}
        if version.source:
            entry["source"] = version.source.to_json()
        if version.sha256:
            entry["sha256"] = version.sha256
        if artifact:
            entry |= {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes, **artifact.signature.to_json()}
        versions.append({**entry, "served_by": served_by(project.manifest, version)})
    fields = {"model": model.name, "description": model.description, "versions": versions}
    if model.graph is None:
        return fields
    from turnout.plan.checks.graphs import graph_signatures
    from turnout.protocol.routing.graph_nodes import spell_node

    signature = graph_signatures(project.manifest, project.artifacts)[name]
    return {**fields, "graph": spell_node(model.graph), **signature.to_json()}
