"""Collects the contents of a function's zip except bytecode: metadata, model files, transform, handler, protocol."""

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
"""Folder in a function's zip; it is separate, so a transform's files cannot replace other files of the zip."""


@dataclass(frozen=True, slots=True)
class FunctionInputs:
    """The parts of a function's zip.

    Args:
        version: the manifest's version.
        artifact: the version's model.
        folder: the manifest's folder; the version's paths are relative to it.
        is_stored: whether the function fetches the model from S3 at init instead of the zip containing it.
        beside: the transform and its files, by names relative to its folder.
        fatal: requests that its function refuses because they would crash it.
        requests: requests of the version's examples.
    """

    version: Version
    artifact: Artifact
    folder: Path
    is_stored: bool = False
    beside: Mapping[str, Path] = field(default_factory=dict)
    fatal: tuple[FatalRequest, ...] = ()
    requests: tuple[Mapping[str, Any], ...] = ()

    def examples(self) -> list[dict[str, np.ndarray[Any, Any]]]:
        """Return the examples as the graph's inputs.

        Return none if the version has a transform or an example is not a request.
        """
        if self.version.transform or self.version.image:
            return []
        interface = build_interface(self.artifact.signature)
        try:
            decoded = [decode_request({}, orjson.dumps(request), interface).inputs for request in self.requests]
        except RequestError:
            return []
        return [{name: _as_texts(values) for name, values in inputs.items()} for inputs in decoded]

    def metadata(self) -> dict[str, Any]:
        """Return `function.json`, which the handler reads at init.

        Memory is not included: Lambda's environment has it.
        """
        artifact_name = self.artifact.path.name
        capture = self.version.capture
        image = self.version.image
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
            **({} if image is None else {"image": image.to_json()}),
        }

    def transform_files(self) -> dict[str, Path]:
        """Return archive name -> file for the transform and its files."""
        return {f"{TRANSFORM_FOLDER}/{name}": path for name, path in self.beside.items()}

    def model_files(self, graph: Path) -> dict[str, Path]:
        """Return archive name -> file: `graph` by the artifact's name, external data by the names in the graph."""
        if self.is_stored:
            return {}
        base = self.artifact.path.parent
        external = {f"model/{path.relative_to(base).as_posix()}": path for path in self.artifact.external_files}
        return {f"model/{self.artifact.path.name}": graph} | external

    def stored_files(self) -> tuple[StoredFile, ...]:
        """Return the files that the function fetches at init; none if the model is in the zip."""
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
    """A file of a model that its function fetches from S3.

    Args:
        name: name relative to the model's folder.
        path: its path on this machine.
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
    """Return archive name -> file for the handler, the runtime and the protocol: the same in every function's zip."""
    lambdas = Path(str(importlib.import_module(model_lambdas_package()).__file__)).parent
    files = {"model_lambdas/__init__.py": lambdas / "__init__.py"}
    for folder in (FUNCTION, runtime.package):
        files |= {f"model_lambdas/{folder}/{name}": path for name, path in modules_below(lambdas / folder).items()}
    return protocol_files() | files


def protocol_files() -> dict[str, Path]:
    """Return archive name -> file for the protocol, which is part of every zip."""
    protocol = Path(turnout.protocol.__file__).parent
    files = {"turnout/__init__.py": protocol.parent / "__init__.py"}
    return files | {f"turnout/protocol/{name}": path for name, path in modules_below(protocol).items()}


def modules_below(folder: Path) -> dict[str, Path]:
    """Return path below the folder -> file, for every module in the folder and its packages."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py"))}


def to_json(value: Any) -> bytes:
    """Return JSON in a fixed format: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _as_texts(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return BYTES as onnxruntime expects them: `str` in an object array."""
    if values.dtype != object:
        return values
    texts = np.empty(values.size, object)
    texts[:] = [value.decode() for value in values.reshape(-1)]
    return texts.reshape(values.shape)
