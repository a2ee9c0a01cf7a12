"""The general router's catalogue: models, their versions and signatures.

Parts that a page only passes on, signatures and examples, remain JSON, so a cold start with thousands of versions reads
no tensor and does not import numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.protocol.naming import function_name, pool_name
from turnout.protocol.routing.pooled import aim_at


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """One version of a model.

    Args:
        name: `v1`.
        description: its description, or empty.
        sha256: digest of its artifact, 64 hex digits; empty if unknown.
        size_bytes: size of its artifact.
        signature: its tensors, as made by `Signature.to_json`.
        platform: the Open Inference Protocol's name of its runtime.
        examples: valid requests and their expected answers, as in its examples.json.
        source: its origin, as in models.yaml; empty if unknown.
        pool: pool of its function; empty if it has a function of its own.
    """

    name: str
    description: str
    sha256: str
    size_bytes: int
    signature: Mapping[str, Any]
    platform: str
    examples: tuple[Mapping[str, Any], ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    pool: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`."""
        return {
            "name": self.name,
            "description": self.description,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "signature": dict(self.signature),
            "platform": self.platform,
            "examples": [dict(example) for example in self.examples],
            **({"source": dict(self.source)} if self.source else {}),
            **({"pool": self.pool} if self.pool else {}),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> VersionEntry:
        """Return the entry that `to_json` wrote."""
        return cls(**{**fields, "examples": tuple(fields["examples"])})


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: versions, or a graph of other models.

    Args:
        name: `iris`.
        variable: the stage variable that chooses its version or router.
        route_variable: the stage variable with its router's choice.
        versions: by name, in the order of models.yaml; empty for a graph.
        description: its description, or empty.
        routing: its `routing`, as in models.yaml.
        signature: signature of a graph, as made by `Signature.to_json`; a version has its own.
        calls: each (model, version) that a graph calls; an empty version is the one that the stage serves.
    """

    name: str
    variable: str
    route_variable: str
    versions: Mapping[str, VersionEntry]
    description: str = ""
    routing: Mapping[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[tuple[str, str], ...] = ()

    @property
    def is_graph(self) -> bool:
        """Whether it is made of other models."""
        return not self.versions

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`."""
        return {
            "name": self.name,
            "variable": self.variable,
            "route_variable": self.route_variable,
            "versions": [version.to_json() for version in self.versions.values()],
            "description": self.description,
            "routing": dict(self.routing),
            "signature": dict(self.signature),
            "calls": [list(call) for call in self.calls],
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ModelEntry:
        """Return the entry that `to_json` wrote."""
        versions = map(VersionEntry.from_json, fields["versions"])
        calls = tuple((model, version) for model, version in fields["calls"])
        return cls(**{**fields, "versions": {version.name: version for version in versions}, "calls": calls})


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that can be called in one deployment.

    Args:
        prefix: start of all functions' names, `turnout-prod`; not in the JSON, which is the same in every stack.
        platform: platform in models.yaml.
        release: Turnout's own version.
        models: by name, in the order of models.yaml.
        documents: stage -> its OpenAPI document as JSON text, an object without `servers`.
    """

    prefix: str
    platform: str
    release: str
    models: Mapping[str, ModelEntry]
    documents: Mapping[str, str]

    def function_of(self, model: str, version: str) -> str:
        """Return the function that runs a version, or a model's router if `version` is `router`."""
        pool = self._pool_of(model, version)
        return pool_name(self.prefix, pool) if pool else function_name(self.prefix, model, version)

    def aim(self, event: dict[str, Any], model: str, version: str) -> dict[str, Any]:
        """Return the event for that function; for a pool, it contains the called version."""
        return aim_at(event, model, version) if self._pool_of(model, version) else event

    def _pool_of(self, model: str, version: str) -> str:
        entry = self.models.get(model)
        known = None if entry is None else entry.versions.get(version)
        return "" if known is None else known.pool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object for `from_json`, with the documents' file names only."""
        names = self._file_names()
        return {
            "platform": self.platform,
            "release": self.release,
            "models": [model.to_json() for model in self.models.values()],
            "documents": {stage: names[text] for stage, text in self.documents.items()},
        }

    def document_files(self) -> dict[str, str]:
        """Return file name -> document: those of thousands of models are large, and few calls need them."""
        return {name: text for text, name in self._file_names().items()}

    def _file_names(self) -> dict[str, str]:
        return {text: f"document{number}.json" for number, text in enumerate(dict.fromkeys(self.documents.values()))}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], prefix: str, read: Callable[[str], str]) -> Catalogue:
        """Return the catalogue that `to_json` wrote; `read` returns a document's file when it is needed."""
        models = map(ModelEntry.from_json, fields["models"])
        documents = Documents(fields["documents"], read)
        return cls(prefix, fields["platform"], fields["release"], {model.name: model for model in models}, documents)


class Documents(Mapping[str, str]):
    """Stage -> its document, read from its file each time.

    Args:
        files: stage -> file name.
        read: returns a file's text.
    """

    def __init__(self, files: Mapping[str, str], read: Callable[[str], str]) -> None:
        self._files = files
        self._read = read

    def __getitem__(self, stage: str) -> str:
        """Return the document of a stage."""
        return self._read(self._files[stage])

    def __iter__(self) -> Iterator[str]:
        """Return the stages."""
        return iter(self._files)

    def __len__(self) -> int:
        """Return the number of stages."""
        return len(self._files)
