"""The manifest, `models.yaml`: what the user wrote, as frozen values.

Comes in: the file's bytes. Goes out: a `Manifest`, or a `ProblemsError` with all that is wrong. Called by the command
line, the gateway and infra before anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.manifest_schema import check_schema, schema_default
from turnout.problems import Problem, ProblemsError
from turnout.references import check_references
from turnout.yaml_source import KeyPath, Position, YamlSource, read_yaml

__all__ = [
    "NEWEST",
    "Canary",
    "Manifest",
    "Model",
    "Position",
    "Routing",
    "Stage",
    "Throttle",
    "Version",
    "Warm",
    "parse_manifest",
]

NEWEST = "newest"
"""`"*": newest` in a stage's `serve`: every model not named serves the last version listed."""


@dataclass(frozen=True, slots=True)
class Warm:
    """What keeps a version from starting cold; at most one of the two."""

    provisioned: int = 0
    snap_start: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable artifact of a model, with the defaults already merged in.

    Args:
        model: the model's name.
        name: the version's name.
        artifact: as written: a path relative to the manifest, or `s3://bucket/key`.
        sha256: the pinned digest, or empty.
        architecture: `arm64` or `x86_64`.
        memory_mb: 128-10240.
        timeout_s: 1-900; API Gateway ends a call at 29 s.
        warm: provisioned concurrency or SnapStart.
        reserved_concurrency: how many calls may run at once; None where the account's limit alone holds.
        transform: path of the Python file with `preprocess` / `postprocess`, or empty.
        requirements: the packages that the transform imports, PEP 508; they go into the layer.
        examples: path of the JSON file with requests and expected outputs, or empty.
        breaking: whether the version may take traffic from one with another signature.
        description: for the catalogue.
    """

    model: str
    name: str
    artifact: str
    sha256: str = ""
    architecture: str = "arm64"
    memory_mb: int = 1024
    timeout_s: int = 15
    warm: Warm = Warm()
    reserved_concurrency: int | None = None
    transform: str = ""
    requirements: tuple[str, ...] = ()
    examples: str = ""
    breaking: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Routing:
    """What needs the model's router. Empty strings and 0 mean: not asked for."""

    sticky_header: str = ""
    shadow_version: str = ""
    shadow_percent: float = 0.0
    fallback: str = ""

    def __bool__(self) -> bool:
        """Whether anything needs the router."""
        return bool(self.sticky_header or self.shadow_version or self.fallback)


@dataclass(frozen=True, slots=True)
class Model:
    """A served model: its versions in the order of the file, the last one the newest."""

    name: str
    versions: tuple[Version, ...]
    description: str = ""
    routing: Routing = Routing()

    def version(self, name: str) -> Version:
        """The version of that name; KeyError where there is none."""
        for version in self.versions:
            if version.name == name:
                return version
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Canary:
    """A stage's canary: `percent` of its traffic, 0-100, sees `serve` instead of the baseline's versions."""

    percent: float
    serve: Mapping[str, str]
    release: bool = False


@dataclass(frozen=True, slots=True)
class Throttle:
    """Requests per second over time, and how many at once, for the whole stage."""

    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `serve` names every model that has no entry in `weights` (`"*": newest` is already spelled out).

    Args:
        name: first segment of the stage's paths.
        serve: model name -> version name.
        weights: model name -> version name -> percent; they add up to 100.
        canary: the stage's canary, or `None`.
        auth: a key of `turnout.auth.AUTH_TYPES`.
        throttle: or `None`.
    """

    name: str
    serve: Mapping[str, str]
    weights: Mapping[str, Mapping[str, float]]
    canary: Canary | None = None
    auth: str = "none"
    throttle: Throttle | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole file, checked.

    Args:
        platform: prefix of every AWS name.
        models: in the file's order.
        stages: in the file's order; the first one answers where a path names no stage.
        path: the file, absolute; artifacts are relative to its folder.
        source: the file's name as the user gave it, for messages.
        positions: key path -> where it stands, for problems found later (`position_of` finds the nearest).
    """

    platform: str
    models: tuple[Model, ...]
    stages: tuple[Stage, ...]
    path: Path
    source: str
    positions: Mapping[tuple[str | int, ...], Position]

    def model(self, name: str) -> Model:
        """The model of that name; KeyError where there is none."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    def position_of(self, path: tuple[str | int, ...]) -> Position:
        """Where `path`, or its nearest ancestor that the file holds, stands."""
        return nearest_position(self.positions, path)


def parse_manifest(data: bytes, *, path: Path, source: str) -> Manifest:
    """The manifest that the bytes spell; `path` is where they were read, `source` what messages call it.

    Pure: whether the files that it names are there, and what they hold, is `turnout.project`'s to find out.

    Raises:
        ProblemsError: everything that is wrong with the file.
    """
    read = read_yaml(data, source=source)
    problems = check_manifest(read, source)
    if problems:
        raise ProblemsError(problems)
    return build_manifest(read, path=path, source=source)


def check_manifest(read: YamlSource, source: str) -> tuple[Problem, ...]:
    """All that is wrong with the file, its readable parts included."""
    problems = list(read.problems)
    for finding in (*check_schema(read.tree, read.numbers), *check_references(read.tree)):
        if finding.path not in read.unread:
            at = nearest_position(read.positions, finding.path)
            problems.append(Problem(finding.message, finding.path, source, at.line, at.column, finding.hint))
    return tuple(problems)


def named_files(read: YamlSource, problems: Iterable[Problem]) -> tuple[Version, ...]:
    """Every version as far as its files go, whatever else is wrong: what is itself wrong, or missing, is empty."""
    broken = {problem.path for problem in problems}
    models = read.tree.get("models")
    found = []
    for model, body in (models if isinstance(models, dict) else {}).items():
        versions = body.get("versions") if isinstance(body, dict) else None
        for name, fields in (versions if isinstance(versions, dict) else {}).items():
            path = ("models", model, "versions", name)
            known = fields if isinstance(fields, dict) else {}
            sound = {key: value for key, value in known.items() if (*path, key) not in broken}
            files = {key: sound.get(key, "") for key in ("artifact", "sha256", "transform", "examples")}
            files["sha256"] = files["sha256"].lower()
            found.append(Version(model, name, **files))
    return tuple(found)


def nearest_position(positions: Mapping[KeyPath, Position], path: KeyPath) -> Position:
    """Where `path`, or its nearest ancestor that the file holds, stands."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, Position(1, 1))


def build_manifest(read: YamlSource, *, path: Path, source: str) -> Manifest:
    """The values of a tree in which `check_manifest` found nothing wrong."""
    tree: Mapping[str, Any] = read.tree
    given = tree.get("defaults", {})
    defaults = {key: given.get(key, schema_default(key)) for key in ("architecture", "memory_mb", "timeout_s")}
    models = tuple(_model(name, fields, defaults) for name, fields in tree["models"].items())
    newest = {model.name: model.versions[-1].name for model in models}
    return Manifest(
        platform=tree.get("platform", schema_default("platform")),
        models=models,
        stages=tuple(_stage(name, fields, newest) for name, fields in tree["stages"].items()),
        path=path.absolute(),
        source=source,
        positions=read.positions,
    )


def _model(name: str, fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> Model:
    versions = (_version(name, version, {**defaults, **body}) for version, body in fields["versions"].items())
    return Model(name, tuple(versions), fields.get("description", ""), _routing(fields.get("routing", {})))


def _version(model: str, name: str, fields: Mapping[str, Any]) -> Version:
    warm = fields.get("warm", {})
    return Version(
        model=model,
        name=name,
        artifact=fields["artifact"],
        sha256=fields.get("sha256", "").lower(),
        architecture=fields["architecture"],
        memory_mb=int(fields["memory_mb"]),  # 512.0 is a whole number too
        timeout_s=int(fields["timeout_s"]),
        warm=Warm(provisioned=int(warm.get("provisioned", 0)), snap_start=warm.get("snap_start", False)),
        reserved_concurrency=int(fields["reserved_concurrency"]) if "reserved_concurrency" in fields else None,
        transform=fields.get("transform", ""),
        requirements=tuple(fields.get("requirements", ())),
        examples=fields.get("examples", ""),
        breaking=fields.get("breaking", False),
        description=fields.get("description", ""),
    )


def _routing(fields: Mapping[str, Any]) -> Routing:
    shadow = fields.get("shadow", {})
    return Routing(
        sticky_header=fields.get("sticky", {}).get("header", "").lower(),
        shadow_version=shadow.get("version", ""),
        shadow_percent=float(shadow.get("percent", 0)),
        fallback=fields.get("fallback", ""),
    )


def _stage(name: str, fields: Mapping[str, Any], newest: Mapping[str, str]) -> Stage:
    """One stage, with `"*": newest` spelled out in the order of the models."""
    serve, weights = fields.get("serve", {}), fields.get("weights", {})
    canary, throttle = fields.get("canary"), fields.get("throttle")
    return Stage(
        name=name,
        serve={model: serve.get(model, newest[model]) for model in newest if model not in weights},
        weights={model: {v: float(share) for v, share in shares.items()} for model, shares in weights.items()},
        canary=_canary(canary) if canary is not None else None,
        auth=fields.get("auth", "none"),
        throttle=Throttle(float(throttle["rate"]), int(throttle["burst"])) if throttle is not None else None,
    )


def _canary(fields: Mapping[str, Any]) -> Canary:
    return Canary(float(fields["percent"]), dict(fields.get("serve", {})), fields.get("release", False))
