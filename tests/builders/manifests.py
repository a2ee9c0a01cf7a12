"""Manifest values for tests, made without YAML, and hypothesis strategies for whole manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from turnout.artifacts.artifact import Artifact
from turnout.manifest.access import RequestQuota
from turnout.manifest.parser import (
    Asynchronous,
    CallNode,
    Canary,
    Case,
    Consumer,
    Cors,
    EnsembleNode,
    Jwt,
    Manifest,
    Model,
    Node,
    Position,
    Routing,
    SequenceNode,
    Stage,
    Sticky,
    SwitchNode,
    Throttle,
    Version,
    Warm,
)
from turnout.protocol.naming import (
    RESERVED_MODELS,
    RESERVED_STAGES,
    RESERVED_VERSIONS,
    route_variable_name,
    variable_name,
)
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

Artifacts = dict[tuple[str, str], Artifact]


def signature(datatype: str = "FP32", shape: tuple[int, ...] | None = (-1, 4)) -> Signature:
    """One input `x` and one output `y` of the same kind."""
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),))


def model(name: str = "iris", versions: tuple[str, ...] = ("v1", "v2"), **fields: Any) -> Model:
    """A model whose versions differ only in names and artifacts."""
    rows = tuple(Version(name, version, f"models/{name}/{version}/model.onnx") for version in versions)
    return Model(name, rows, **fields)


def stage(name: str = "prod", serve: Mapping[str, str] | None = None, **fields: Any) -> Stage:
    """A stage that serves `iris` v1 by default."""
    return Stage(name, {"iris": "v1"} if serve is None else serve, fields.pop("weights", {}), **fields)


def manifest(
    models: tuple[Model, ...] | None = None,
    stages: tuple[Stage, ...] | None = None,
    platform: str = "turnout",
    positions: Mapping[tuple[str | int, ...], Position] | None = None,
    routes: str = "auto",
) -> Manifest:
    """By default `iris` v1 and v2 on one stage."""
    models = (model(),) if models is None else models
    stages = (stage(),) if stages is None else stages
    path = Path("models.yaml").absolute()
    return Manifest(platform, models, stages, path=path, source="models.yaml", positions=positions or {}, routes=routes)


def artifact(seed: str, tensors: Signature | None = None, size_bytes: int = 1000) -> Artifact:
    """An artifact that was never read: digest and path depend on `seed`."""
    digest = sha256(seed.encode()).hexdigest()
    return Artifact(Path(f"/{digest}.onnx"), digest, size_bytes, tensors or signature())


def artifacts_of(of: Manifest, tensors: Mapping[tuple[str, str], Signature] | None = None) -> Artifacts:
    """An artifact for every version; `tensors` gives some of them a signature other than `x` to `y`."""
    given = tensors or {}
    return {
        (version.model, version.name): artifact(version.artifact, given.get((version.model, version.name)))
        for model in of.models
        for version in model.versions
    }


def large_manifest(models: int, versions: int, stages: int = 2) -> Manifest:
    """`m0`... with `v1`..., on `s0`...; the stages serve the newest and the oldest version in turn. Routes
    are direct.
    """
    rows = tuple(model(f"m{number}", tuple(f"v{index + 1}" for index in range(versions))) for number in range(models))
    return manifest(
        rows,
        tuple(
            stage(f"s{number}", {entry.name: entry.versions[-1 if number % 2 == 0 else 0].name for entry in rows})
            for number in range(stages)
        ),
        routes="direct",
    )


model_names = st.from_regex(r"[a-z][a-z0-9]{0,4}(-[a-z][a-z0-9]{0,3}){0,2}", fullmatch=True).filter(
    lambda name: name not in RESERVED_MODELS
)
version_names = st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,3}){0,2}", fullmatch=True).filter(
    lambda name: name not in RESERVED_VERSIONS
)
stage_names = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True).filter(lambda name: name not in RESERVED_STAGES)
tensor_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
datatypes = st.sampled_from(sorted(DATATYPES))
dimensions = st.one_of(st.just(-1), st.integers(0, 5))


@st.composite
def tensors(draw: st.DrawFn) -> TensorSpec:
    """Any small tensor that a graph may declare."""
    shape = draw(st.one_of(st.none(), st.lists(dimensions, max_size=3).map(tuple)))
    names = () if shape is None else tuple(draw(st.one_of(st.none(), tensor_names)) for _ in shape)
    return TensorSpec(draw(tensor_names), draw(datatypes), shape, names, required=draw(st.booleans()))


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    """Any small signature."""
    inputs = draw(st.lists(tensors(), max_size=3, unique_by=lambda tensor: tensor.name))
    outputs = draw(st.lists(tensors(), min_size=1, max_size=3, unique_by=lambda tensor: tensor.name))
    return Signature(tuple(inputs), tuple(outputs))


@st.composite
def versions_of(draw: st.DrawFn, name: str) -> tuple[Version, ...]:
    """The versions of one model."""
    return tuple(
        Version(
            name,
            version,
            f"models/{name}/{version}/model.onnx",
            architecture=draw(st.sampled_from(["arm64", "x86_64"])),
            memory_mb=draw(st.integers(128, 10_240)),
            timeout_s=draw(st.integers(1, 60)),
            warm=draw(st.sampled_from([Warm(), Warm(provisioned=2), Warm(snap_start=True)])),
            breaking=draw(st.booleans()),
            description=draw(st.sampled_from(["", "Trained again."])),
        )
        for version in draw(st.lists(version_names, min_size=1, max_size=3, unique=True))
    )


@st.composite
def models_of(draw: st.DrawFn, name: str) -> Model:
    """One model, with or without settings that need a router."""
    versions = draw(versions_of(name))
    names = [version.name for version in versions]
    routing = Routing()
    if draw(st.integers(0, 3)) == 0:
        routing = Routing(sticky=Sticky("header", "x-user-id"), fallback=draw(st.sampled_from(names)))
    return Model(name, versions, draw(st.sampled_from(["", "What it does."])), routing)


@st.composite
def stages_of(draw: st.DrawFn, name: str, models: tuple[Model, ...]) -> Stage:
    """One stage that serves every model in one of the possible ways."""
    serve: dict[str, str] = {}
    weights: dict[str, dict[str, float]] = {}
    overrides: dict[str, str] = {}
    for model in models:
        names = [version.name for version in model.versions]
        if len(names) > 1 and draw(st.integers(0, 3)) == 0:
            share = draw(st.sampled_from([0.5, 10, 12.5, 50, 99.9]))
            weights[model.name] = {names[0]: 100 - share, names[1]: share}
        else:
            serve[model.name] = draw(st.sampled_from(names))
        if draw(st.integers(0, 2)) == 0:
            overrides[model.name] = draw(st.sampled_from(names))
    canary = Canary(draw(st.sampled_from([0.0, 10.5, 100.0])), overrides, draw(st.booleans()))
    return Stage(
        name,
        serve,
        weights,
        canary if draw(st.booleans()) else None,
        draw(st.sampled_from(["none", "api_key", "iam"])),
        draw(st.sampled_from([None, Throttle(100.0, 200)])),
    )


@st.composite
def graphs_of(draw: st.DrawFn, models: tuple[Model, ...], depth: int = 2) -> Node:
    """A graph of calls to these models, all of which take `x` and return `y`, as in `signature`."""
    called = draw(st.sampled_from(models))
    version = draw(st.sampled_from(["", *(version.name for version in called.versions)]))
    kind = draw(st.sampled_from(["call", "sequence", "ensemble", "switch"] if depth else ["call"]))
    if kind == "call":
        return CallNode(called.name, version)
    inner = graphs_of(models, depth - 1)
    if kind == "sequence":
        # An output `y` becomes the input `x` of the next call.
        return SequenceNode((CallNode(called.name, version, {}, {"y": "x"}), draw(inner)))
    if kind == "ensemble":
        return EnsembleNode((draw(inner), draw(inner)), {"y": draw(st.sampled_from(["mean", "vote", "concatenate"]))})
    return SwitchNode("x", (Case("above", 5, draw(inner)),), draw(inner))


@st.composite
def manifests_with_graphs(draw: st.DrawFn) -> Manifest:
    """A whole manifest with a graph and possibly a graph that calls it, in addition to its models."""
    of = draw(manifests())
    models = of.models
    for name in draw(st.lists(model_names, min_size=1, max_size=2, unique=True)):
        taken = {spell(model.name) for model in models for spell in (variable_name, route_variable_name)}
        if not taken & {variable_name(name), route_variable_name(name)}:
            models = (*models, Model(name, (), graph=draw(graphs_of(models))))
    return replace(of, models=models, open_inference=draw(st.sampled_from(["proxy", "direct", "off"])))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """A whole manifest that parse_manifest would accept: distinct names, every model served by every stage."""
    names = draw(st.lists(model_names, min_size=1, max_size=4, unique=True))
    routes = {route_variable_name(name) for name in names}
    models = tuple(draw(models_of(name)) for name in names if variable_name(name) not in routes)
    stages = tuple(
        draw(stages_of(name, models)) for name in draw(st.lists(stage_names, min_size=1, max_size=3, unique=True))
    )
    return manifest(models, stages)


@st.composite
def manifests_with_access(draw: st.DrawFn) -> Manifest:
    """A whole manifest whose stages also have tokens, web pages, consumers and asynchronous requests."""
    of = draw(manifests())
    consumers = (
        Consumer("web", (of.models[0].name,), quota=RequestQuota(10, "day")),
        Consumer("batch", keys=("k1", "k2")),
    )
    jwt = Jwt("https://login.example.com", ("app",))
    stages = []
    for planned in of.stages:
        auth = draw(st.sampled_from([planned.auth, "jwt"]))
        access = replace(
            planned,
            auth=auth,
            jwt=jwt if auth == "jwt" else None,
            cors=draw(st.sampled_from([None, Cors(("*",)), Cors(("https://a.example", "https://b.example"))])),
            consumers=consumers if auth == "api_key" and draw(st.booleans()) else (),
            asynchronous=draw(st.sampled_from([None, Asynchronous()])),
        )
        stages.append(access)
    routes, open_inference = (
        draw(st.sampled_from(["auto", "shared"])),
        draw(st.sampled_from(["proxy", "direct", "off"])),
    )
    return replace(of, stages=tuple(stages), routes=routes, open_inference=open_inference)
