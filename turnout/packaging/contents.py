"""The contents of a function's zip besides its bytecode: metadata, model files, transform, handler and protocol."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

import turnout.protocol
from turnout.artifacts.artifact import Artifact
from turnout.layout import model_lambdas_package
from turnout.manifest.parser import Version
from turnout.packaging.zips import content_digest
from turnout.protocol.codecs.codecs import decode_request
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.fatal_requests import FatalRequest
from turnout.protocol.tensors.interface import build_interface
from turnout.runtimes.registry import RUNTIMES
from turnout.runtimes.runtime import Runtime

TRANSFORM_FOLDER = "transform"
"""In a function's zip; its own folder, so that nothing beside a transform replaces anything else of the zip."""


@dataclass(frozen=True, slots=True)
class FunctionInputs:
    """The parts of a function's zip.

    Args:
        version: as the manifest has it.
        artifact: its model.
        folder: the manifest's, which the version's paths are relative to.
        is_stored: whether the model is fetched from S3 at init instead of lying in the zip.
        beside: the transform and what lies beside it, by names relative to its folder.
        fatal: requests that its function refuses, for they would end it.
        requests: those of the version's examples.
    """

    version: Version
    artifact: Artifact
    folder: Path
    is_stored: bool = False
    beside: Mapping[str, Path] = field(default_factory=dict)
    fatal: tuple[FatalRequest, ...] = ()
    requests: tuple[Mapping[str, Any], ...] = ()

    def examples(self) -> list[dict[str, np.ndarray[Any, Any]]]:
        """The examples as the graph's inputs; none where the version has a transform, or where one is not a request."""
        if self.version.transform:
            return []
        interface = build_interface(self.artifact.signature)
        try:
            decoded = [decode_request({}, orjson.dumps(request), interface).inputs for request in self.requests]
        except RequestError:
            return []
        return [{name: _as_texts(values) for name, values in inputs.items()} for inputs in decoded]

    def metadata(self) -> dict[str, Any]:
        """`function.json`: what the handler reads at init. Memory comes from Lambda's environment, not from here."""
        artifact_name = self.artifact.path.name
        capture = self.version.capture
        return {
            "model": self.version.model,
            "version": self.version.name,
            "sha256": self.artifact.sha256,
            "signature": self.artifact.graph_signature.to_json(),
            "public": None if self.artifact.graph is None else self.artifact.signature.to_json(),
            "opener": RUNTIMES[self.version.runtime].opener,
            "artifact": f"model/{artifact_name}",
            "transform": f"{TRANSFORM_FOLDER}/{Path(self.version.transform).name}" if self.version.transform else None,
            "stored": [file.to_json() for file in self.stored_files()],
            "warm_up": next(iter(self.requests), None),
            "fatal": [kind.to_json() for kind in self.fatal],
            "capture": None if capture is None else {"percent": capture.percent, "redact": list(capture.redact)},
        }

    def transform_files(self) -> dict[str, Path]:
        """Archive name -> file of the transform, with what lies beside it."""
        return {f"{TRANSFORM_FOLDER}/{name}": path for name, path in self.beside.items()}

    def model_files(self, graph: Path) -> dict[str, Path]:
        """Archive name -> file: `graph` under the artifact's own name, external data where the graph looks for it."""
        if self.is_stored:
            return {}
        base = self.artifact.path.parent
        external = {f"model/{path.relative_to(base).as_posix()}": path for path in self.artifact.external_files}
        return {f"model/{self.artifact.path.name}": graph} | external

    def stored_files(self) -> tuple[StoredFile, ...]:
        """The files that the function fetches at init; none where the model is in the zip."""
        if not self.is_stored:
            return ()
        given, external = self.artifact.path, self.artifact.external_files
        if not external:
            return (StoredFile(given.name, given, self.artifact.size_bytes, self.artifact.sha256),)
        return tuple(
            StoredFile(path.relative_to(given.parent).as_posix(), path, path.stat().st_size, content_digest(path))
            for path in (given, *external)
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model that its function fetches from S3.

    Args:
        name: relative to the model's folder.
        path: where it lies here.
        bytes: its size.
        sha256: 64 hex digits.
    """

    name: str
    path: Path
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The JSON that the function reads."""
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256}


FUNCTION = "function"
"""The folder of model_lambdas/ that all runtimes share."""


def code_files(runtime: Runtime) -> dict[str, Path]:
    """Archive name -> file of the handler, the runtime and the protocol: the same in every function's zip."""
    lambdas = Path(str(importlib.import_module(model_lambdas_package()).__file__)).parent
    files = {"model_lambdas/__init__.py": lambdas / "__init__.py"}
    for folder in (FUNCTION, runtime.package):
        files |= {f"model_lambdas/{folder}/{name}": path for name, path in modules_below(lambdas / folder).items()}
    return protocol_files() | files


def protocol_files() -> dict[str, Path]:
    """Archive name -> file of the protocol: what travels into every zip."""
    protocol = Path(turnout.protocol.__file__).parent
    files = {"turnout/__init__.py": protocol.parent / "__init__.py"}
    return files | {f"turnout/protocol/{name}": path for name, path in modules_below(protocol).items()}


def modules_below(folder: Path) -> dict[str, Path]:
    """Path below the folder -> file, of every module in it and in the packages below it."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py"))}


def to_json(value: Any) -> bytes:
    """JSON in one spelling: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _as_texts(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """BYTES as onnxruntime takes them: `str` in an object array."""
    if values.dtype != object:
        return values
    texts = np.empty(values.size, object)
    texts[:] = [value.decode() for value in values.reshape(-1)]
    return texts.reshape(values.shape)
