"""Lambda's entry point: opens and warms up the session at init, so that a SnapStart snapshot has both."""

from __future__ import annotations

import base64
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from turnout.protocol.aws.events import LambdaHandler
from turnout.protocol.aws_requests.stored_requests import StoredRequests
from turnout.protocol.telemetry import disable_telemetry
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.fatal_requests import FatalRequest

from .captured_requests import CaptureRule, capturing_requests
from .failed_answers import counting_failures
from .handler import ModelFunction
from .runtime import FunctionSpec, find_opener

log = logging.getLogger("turnout.function")


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
    )
    function = ModelFunction(spec, find_opener(fields["opener"]))
    function.load()
    if fields["warm_up"] is not None:
        _warm_up(function, fields["warm_up"])
    return function


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
    fields = orjson.loads((folder / "function.json").read_bytes())
    function = load_function(folder, fields)
    handle = counting_failures(function, print)
    capture = fields["capture"]
    if capture:
        handle = capturing_requests(handle, function.spec, CaptureRule(**capture), print)
    stored, spec = StoredRequests(os.environ), function.spec
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    return stored.accepting(stored.running(handle), name, spec.model, spec.version)


handler = _make_handler(Path(os.environ["LAMBDA_TASK_ROOT"])) if "LAMBDA_TASK_ROOT" in os.environ else None
