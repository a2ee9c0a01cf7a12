"""Lambda's entry point: opens and warms up the session at init, so that a SnapStart snapshot has both.

A pool opens nothing at init: each of its versions is opened when it is called. What only some functions need is
imported by those alone, since each import lengthens the cold start.
"""

from __future__ import annotations

import base64
import importlib
import logging
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from turnout.protocol.aws.events import LambdaHandler
from turnout.protocol.aws_requests.stored_requests import StoredRequests
from turnout.protocol.telemetry import disable_telemetry
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.fatal_requests import FatalRequest

from .failed_answers import counting_failures
from .handler import ModelFunction
from .runtime import FunctionSpec, find_opener

if TYPE_CHECKING:
    from turnout.protocol.tensors.image_input import ImageInput

    from .pool import PoolFunction

log = logging.getLogger("turnout.function")

POOL_FILE = "pool.json"
"""The file in a pool's zip that replaces `function.json`."""


def load_function(folder: Path, fields: Mapping[str, Any]) -> ModelFunction:
    """Return the function packaged in `folder`, whose `function.json` is `fields`, with its session open and warmed up.

    Raises:
        ModelError: the artifact or the transform cannot be opened; Lambda reports a failed init.
    """
    model = folder
    if fields["stored"]:
        from .stored_model import StoredFile, fetch_model  # imports TLS, which other functions need not wait for

        model = Path(tempfile.gettempdir(), "turnout", fields["sha256"])
        fetch_model([StoredFile(**file) for file in fields["stored"]], model / "model", os.environ)
    function = make_function(fields, model, folder)
    function.load()
    if fields["warm_up"] is not None:
        _warm_up(function, fields["warm_up"])
    return function


def make_function(fields: Mapping[str, Any], model: Path, folder: Path) -> ModelFunction:
    """Return the function that `fields` describe, not yet loaded.

    Args:
        fields: fields of `function.json`, or of one version in `pool.json`.
        model: folder of its model's files.
        folder: folder of the package.
    """
    spec = FunctionSpec(
        model=fields["model"],
        version=fields["version"],
        sha256=fields["sha256"],
        signature=Signature.from_json(fields["signature"]),
        public=Signature.from_json(fields["public"]) if fields.get("public") else None,
        artifact=model / fields["artifact"],
        transform=folder / fields["transform"] if fields["transform"] else None,
        memory_mb=int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")),
        fatal=tuple(FatalRequest.from_json(kind) for kind in fields["fatal"]),
        image=_read_image(fields.get("image")),
    )
    return ModelFunction(spec, find_opener(fields["opener"]))


def _read_image(fields: Mapping[str, Any] | None) -> ImageInput | None:
    if not fields:
        return None
    from turnout.protocol.tensors.image_input import ImageInput

    return ImageInput.from_json(fields)


def load_pool(folder: Path, fields: Mapping[str, Any], environ: Mapping[str, str]) -> PoolFunction:
    """Return the function of the pool packaged in `folder`, whose `pool.json` is `fields`; nothing is loaded yet."""
    from .pool import PooledVersion, PoolFunction
    from .session_cache import Size

    versions = {
        (version["model"], version["version"]): PooledVersion(
            sha256=version["sha256"],
            size=Size(version["session_bytes"], sum(file["bytes"] for file in version["stored"])),
            folder=_model_folder(version["sha256"], version["version"], version["model"]),
            load=partial(_load_version, folder, version, environ),
        )
        for version in fields["versions"]
    }
    limit = Size(fields["session_bytes"], fields["disk_bytes"])
    write = print if fields["logs"] else lambda _line: None
    return PoolFunction(fields["pool"], versions, limit, write)


def _load_version(folder: Path, fields: Mapping[str, Any], environ: Mapping[str, str]) -> LambdaHandler:
    from .pool_files import fetch_version  # with TLS
    from .stored_model import StoredFile

    model = _model_folder(fields["sha256"], fields["version"], fields["model"])
    files = [StoredFile(**file) for file in fields["stored"]]
    fetch_version(files, model / "model", fields["location"], fields["sha256"], environ)
    function = make_function(fields, model, folder)
    function.load()
    return _with_capture(function, function, fields["capture"])


def _model_folder(sha256: str, version: str, model: str) -> Path:
    """Return a folder for one version: two versions may have equal files, and each deletes its own."""
    return Path(tempfile.gettempdir(), "turnout", f"{model}_{version}_{sha256[:16]}")


def _with_capture(handle: LambdaHandler, function: ModelFunction, capture: dict[str, Any] | None) -> LambdaHandler:
    if not capture:
        return handle
    from .captured_requests import CaptureRule, capturing_requests

    return capturing_requests(handle, function.spec, CaptureRule(**capture), print)


def _warm_up(function: ModelFunction, request: dict[str, Any]) -> None:
    """Call the function with the version's first example, so that first-run allocations precede the first caller."""
    body = base64.b64encode(orjson.dumps(request)).decode()
    event = {"headers": {"content-type": "application/json"}, "body": body, "isBase64Encoded": True}
    answer = function(event, None)
    if answer["statusCode"] != 200:
        spec = function.spec
        log.warning("%s %s: the warm-up request was answered %s", spec.model, spec.version, answer["body"])


def _make_handler(folder: Path) -> LambdaHandler:
    disable_telemetry()  # before a transform imports onnxruntime itself
    pool = folder / POOL_FILE
    if pool.exists():
        pooled = orjson.loads(pool.read_bytes())
        for module in pooled["imports"]:
            importlib.import_module(module)  # the runtime, before the first call
        return StoredRequests(os.environ).running(load_pool(folder, pooled, os.environ))
    fields = orjson.loads((folder / "function.json").read_bytes())
    function = load_function(folder, fields)
    handle = _with_capture(counting_failures(function, print), function, fields["capture"])
    stored, spec = StoredRequests(os.environ), function.spec
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    return stored.accepting(stored.running(handle), name, spec.model, spec.version)


handler = _make_handler(Path(os.environ["LAMBDA_TASK_ROOT"])) if "LAMBDA_TASK_ROOT" in os.environ else None
