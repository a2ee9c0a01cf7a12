"""The manifest, `models.yaml`: the user's text as frozen values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from turnout.manifest.access import Consumer, Cors, Domain, RequestQuota, read_consumers, read_cors, read_domain
from turnout.manifest.judgement import Agreement, Judgement, OutputRule, build_judgement
from turnout.manifest.references import check_references
from turnout.manifest.schema import check_schema, schema_default
from turnout.manifest.settings import Capture, Slo, Warm, read_settings, read_slo
from turnout.manifest.values import (
    NEWEST,
    AccountQuotas,
    Asynchronous,
    Budget,
    Canary,
    DeclaredSignature,
    DeclaredTensor,
    Jwt,
    Manifest,
    Model,
    Prices,
    RoutedCanary,
    Routing,
    Stage,
    Throttle,
    Version,
)
from turnout.manifest.version_source import VersionSource
from turnout.problems import Problem, ProblemsError
from turnout.protocol.routing.graph_nodes import (
    CallNode,
    Case,
    EnsembleNode,
    Node,
    SequenceNode,
    SwitchNode,
    build_node,
)
from turnout.protocol.routing.sticky import Sticky
from turnout.protocol.tensors.image_input import IMAGE, ImageInput
from turnout.runtimes.registry import DEFAULT_RUNTIME
from turnout.yaml_text.reader import KeyPath, Position, YamlSource, read_yaml

__all__ = [
    "NEWEST",
    "AccountQuotas",
    "Agreement",
    "Asynchronous",
    "Budget",
    "CallNode",
    "Canary",
    "Capture",
    "Case",
    "Consumer",
    "Cors",
    "Domain",
    "EnsembleNode",
    "Judgement",
    "Jwt",
    "Manifest",
    "Model",
    "Node",
    "OutputRule",
    "Position",
    "Prices",
    "RequestQuota",
    "RoutedCanary",
    "Routing",
    "SequenceNode",
    "Slo",
    "Stage",
    "Sticky",
    "SwitchNode",
    "Throttle",
    "Version",
    "VersionSource",
    "Warm",
    "parse_manifest",
]


PILLOW = "pillow"
"""The package that decodes images."""


def parse_manifest(data: bytes, *, path: Path, source: str) -> Manifest:
    """Return the manifest in the bytes; `path` is their file, `source` its name in messages.

    Pure function: `turnout.project.project` checks whether the named files exist, and their contents.

    Raises:
        ProblemsError: all problems of the file.
    """
    return make_manifest(read_yaml(data, source=source), path=path)


def make_manifest(read: YamlSource, *, path: Path) -> Manifest:
    """Return the manifest of a file that was read.

    Raises:
        ProblemsError: all problems of the file.
    """
    problems = check_manifest(read)
    if problems:
        raise ProblemsError(problems)
    return build_manifest(read, path=path)


def check_manifest(read: YamlSource) -> tuple[Problem, ...]:
    """Yield all problems of the file, including its readable parts."""
    findings = (*check_schema(read.tree, read.numbers), *check_references(read.tree))
    readable = (finding for finding in findings if finding.path not in read.unread)
    return (*read.problems, *(read.problem(finding.path, finding.message, finding.hint) for finding in readable))


def named_files(read: YamlSource, problems: Iterable[Problem]) -> tuple[Version, ...]:
    """Return the files of every version, whatever else is wrong: invalid or missing ones are empty."""
    broken = {problem.path for problem in problems}
    models = read.tree.get("models")
    readable = []
    for model, body in (models if isinstance(models, dict) else {}).items():
        versions = body.get("versions") if isinstance(body, dict) else None
        for name, fields in (versions if isinstance(versions, dict) else {}).items():
            path = ("models", model, "versions", name)
            known = fields if isinstance(fields, dict) else {}
            sound = {key: value for key, value in known.items() if (*path, key) not in broken}
            files = {key: sound.get(key, "") for key in ("artifact", "sha256", "transform", "examples")}
            files["sha256"] = files["sha256"].lower()
            inputs, outputs = (
                () if _is_broken(broken, (*path, key)) else _tensors(known.get(key, {}))
                for key in ("inputs", "outputs")
            )
            image = None
            if "input" in known and not _is_broken(broken, (*path, "input")):
                image = ImageInput.from_json(known["input"])
                inputs = _image_tensors(image)
            runtime = sound.get("runtime", DEFAULT_RUNTIME)
            if (*path, "runtime") in broken:
                files["artifact"] = ""  # without a runtime the artifact cannot be read
            declared = None
            if "signature" in known and not _is_broken(broken, (*path, "signature")):
                declared = build_signature(known["signature"])
            origin = None
            if "source" in known and not _is_broken(broken, (*path, "source")):
                origin = VersionSource(**known["source"])
            version = Version(
                model,
                name,
                **files,
                image=image,
                inputs=inputs,
                outputs=outputs,
                runtime=runtime,
                signature=declared,
                source=origin,
            )
            readable.append(version)
    return tuple(readable)


def _is_broken(broken: Iterable[KeyPath], path: KeyPath) -> bool:
    """Whether something at or below a place is wrong."""
    return any(place[: len(path)] == path for place in broken)


def build_manifest(read: YamlSource, *, path: Path) -> Manifest:
    """Return the values of a tree in which `check_manifest` found no problem."""
    tree: Mapping[str, Any] = read.tree
    given = tree.get("defaults", {})
    defaults = {key: given.get(key, schema_default(key)) for key in ("architecture", "memory_mb", "timeout_s")}
    pools = tree.get("pools", {})
    models = tuple(_model(name, fields, defaults, pools) for name, fields in tree["models"].items())
    newest = {model.name: model.versions[-1].name for model in models if model.versions}
    judged = given.get("canary", {})
    return Manifest(
        platform=tree.get("platform", schema_default("platform")),
        models=models,
        stages=tuple(_stage(name, fields, newest, judged) for name, fields in tree["stages"].items()),
        path=path.absolute(),
        source=read.source,
        positions=read.positions,
        read=read,
        open_inference=tree.get("open_inference", schema_default("open_inference")),
        routes=tree.get("routes", schema_default("routes")),
        judgement=build_judgement(judged),
        quotas=AccountQuotas(**{key: int(value) for key, value in tree.get("quotas", {}).items()}),
        domain=read_domain(tree["domain"]) if "domain" in tree else None,
        prices=Prices(**{key: float(value) for key, value in tree.get("prices", {}).items()}),
        budget=_budget(tree["budget"]) if "budget" in tree else None,
        default_architecture=defaults["architecture"],
    )


def _budget(given: Any) -> Budget:
    """Return the budget; a number limits the cost of a month without calls."""
    rows = given if isinstance(given, dict) else {"month": given}
    return Budget(**{key: float(value) for key, value in rows.items()})


def _model(
    name: str, fields: Mapping[str, Any], defaults: Mapping[str, Any], pools: Mapping[str, Mapping[str, Any]]
) -> Model:
    pool = {"pool": fields["pool"]} if "pool" in fields else {}
    bodies = {version: {**pool, **body} for version, body in fields.get("versions", {}).items()}
    versions = (
        _version(name, version, {**defaults, **pools.get(body.get("pool", ""), {}), **body})
        for version, body in bodies.items()
    )
    return Model(
        name,
        tuple(versions),
        description=fields.get("description", ""),
        routing=_routing(fields.get("routing", {})),
        graph=build_node(fields["graph"]) if "graph" in fields else None,
        is_direct=fields.get("direct", False),
    )


def _version(model: str, name: str, fields: Mapping[str, Any]) -> Version:
    image = ImageInput.from_json(fields["input"]) if "input" in fields else None
    return Version(
        model=model,
        name=name,
        artifact=fields["artifact"],
        sha256=fields.get("sha256", "").lower(),
        kms_key_arn=fields.get("kms_key_arn", ""),
        pool=fields.get("pool", ""),
        transform=fields.get("transform", ""),
        image=image,
        inputs=_image_tensors(image) if image else _tensors(fields.get("inputs", {})),
        outputs=_tensors(fields.get("outputs", {})),
        requirements=_requirements(fields.get("requirements", ()), image),
        examples=fields.get("examples", ""),
        breaking=fields.get("breaking", False),
        description=fields.get("description", ""),
        runtime=fields.get("runtime", DEFAULT_RUNTIME),
        signature=build_signature(fields["signature"]) if "signature" in fields else None,
        source=VersionSource(**fields["source"]) if "source" in fields else None,
        **read_settings(fields),
    )


def _requirements(given: Iterable[str], image: ImageInput | None) -> tuple[str, ...]:
    """Return a version's packages; one that reads images needs Pillow, in the release that it names or the newest."""
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in given}
    return (*given, *((PILLOW,) if image and PILLOW not in names else ()))


def _image_tensors(image: ImageInput) -> tuple[DeclaredTensor, ...]:
    """Return what clients of a version that reads images send."""
    return (DeclaredTensor(image.name, "BYTES", (-1,), IMAGE),)


def _tensors(fields: Mapping[str, Any]) -> tuple[DeclaredTensor, ...]:
    return tuple(
        DeclaredTensor(str(name), field["datatype"], tuple(int(size) for size in field["shape"]))
        for name, field in fields.items()
    )


def build_signature(fields: Mapping[str, Any]) -> DeclaredSignature:
    """Return the signature that a well-formed mapping of models.yaml declares."""
    return DeclaredSignature(_tensors(fields["inputs"]), _tensors(fields["outputs"]))


def _sticky(fields: Mapping[str, Any]) -> Sticky:
    ((kind, name),) = fields.items()
    return Sticky(kind, "" if kind == "api_key" else name.lower() if kind == "header" else name)


def _routing(fields: Mapping[str, Any]) -> Routing:
    shadow = fields.get("shadow", {})
    return Routing(
        sticky=_sticky(fields["sticky"]) if "sticky" in fields else None,
        shadow_version=shadow.get("version", ""),
        shadow_percent=float(shadow.get("percent", 0)),
        fallback=fields.get("fallback", ""),
    )


def _stage(name: str, fields: Mapping[str, Any], newest: Mapping[str, str], judged: Mapping[str, Any]) -> Stage:
    """Return one stage, with `"*": newest` expanded in the order of the models; `judged` is `defaults.canary`."""
    serve, weights = fields.get("serve", {}), fields.get("weights", {})
    routed = {
        model: _routed_canary(body, serve.get(model, newest[model]), weights.get(model), judged)
        for model, body in fields.get("routed_canaries", {}).items()
    }
    split = {model: {v: float(share) for v, share in shares.items()} for model, shares in weights.items()}
    split |= {model: canary.weights for model, canary in routed.items()}
    canary, throttle = fields.get("canary"), fields.get("throttle")
    return Stage(
        name=name,
        serve={model: serve.get(model, newest[model]) for model in newest if model not in split},
        weights=split,
        canary=_canary(canary, judged) if canary is not None else None,
        auth=fields.get("auth", "none"),
        throttle=Throttle(float(throttle["rate"]), int(throttle["burst"])) if throttle is not None else None,
        version_override=fields.get("version_override", False),
        slo=read_slo(fields.get("slo", {})),
        asynchronous=_asynchronous(fields["async"]) if "async" in fields else None,
        jwt=_jwt(fields["jwt"]) if "jwt" in fields else None,
        newest=frozenset(newest.keys() - serve.keys() - weights.keys()),
        cors=read_cors(fields["cors"]) if "cors" in fields else None,
        consumers=read_consumers(fields.get("consumers", {})),
        routed=routed,
    )


def _jwt(fields: Mapping[str, Any]) -> Jwt:
    return Jwt(fields["issuer"], tuple(fields["audience"]), fields.get("jwks", ""))


def _asynchronous(fields: Mapping[str, Any]) -> Asynchronous:
    numbers = ("time_to_live_s", "max_attempts", "max_body_mb", "max_stored_mb")
    return Asynchronous(
        **{key: int(fields[key]) for key in numbers if key in fields},
        callback_hosts=tuple(fields.get("callback_hosts", ())),
        allow_private_callbacks=fields.get("allow_private_callbacks", False),
    )


def _canary(fields: Mapping[str, Any], judged: Mapping[str, Any]) -> Canary:
    return Canary(
        float(fields["percent"]),
        dict(fields.get("serve", {})),
        fields.get("release", False),
        build_judgement({**judged, **fields}),
    )


def _routed_canary(
    fields: Mapping[str, Any], served: str, weights: Mapping[str, float] | None, judged: Mapping[str, Any]
) -> RoutedCanary:
    baseline = {served: 100.0} if weights is None else {version: float(share) for version, share in weights.items()}
    judgement = build_judgement({**judged, **fields})
    return RoutedCanary(fields["version"], float(fields["percent"]), baseline, weights is not None, judgement)
