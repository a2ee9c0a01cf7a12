"""The manifest, `models.yaml`: what the user wrote, as frozen values.

Comes in: the file's bytes. Goes out: a `Manifest`, or a `ProblemsError` with all that is wrong. Called by the command
line, the gateway and infra before anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
        transform: path of the Python file with `preprocess` / `postprocess`, or empty.
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
    transform: str = ""
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
class Position:
    """Where a key stands in the file, 1-based."""

    line: int
    column: int


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
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position(1, 1))
