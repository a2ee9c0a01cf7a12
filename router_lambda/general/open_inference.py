"""The Open Inference Protocol's paths, `/v2`, so that its clients work unchanged.

Source: Open Inference Protocol, "HTTP/REST"; Triton, "Binary Tensor Data Extension".

Paths are parsed from the path parameter, never from the raw path. It is split at its slashes and then decoded, so a
name with an escaped slash is one name, and unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from turnout.protocol.errors import RequestError
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry
from turnout.protocol.routing.choice import handed_on
from turnout.protocol.routing.invocation import Invoke

from ..proxy_answers import answer_failure, check_answered
from .catalogue import find_model, find_version
from .pages import answer_json, check_method
from .readiness import Readiness
from .serving import ServedStage, reach, reach_all

EXTENSIONS = ("binary_tensor_data",)

GRAPH_PLATFORM = "ensemble"
"""Triton's platform name for a model that is made of other models."""

METHOD_OF = {"metadata": "GET", "live": "GET", "ready": "GET", "infer": "POST"}


Accept = Callable[[Mapping[str, Any], ServedStage, ModelEntry, str], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed path.

    Args:
        what: a key of `METHOD_OF`.
        model: the model's name; empty if the path is about the server.
        version: the version's name; empty for the one that the stage serves.
    """

    what: str
    model: str = ""
    version: str = ""


def parse_path(proxy: str) -> Asked | None:
    """Parse the path parameter of `/v2/`; None if the path does not exist."""
    match [unquote(part) for part in proxy.split("/")]:
        case [""]:
            return Asked("metadata")
        case ["health", "live" | "ready" as what]:
            return Asked(what)
        case ["models", model] if model:
            return Asked("metadata", model)
        case ["models", model, "ready" | "infer" as what] if model:
            return Asked(what, model)
        case ["models", model, "versions", version] if model and version:
            return Asked("metadata", model, version)
        case ["models", model, "versions", version, "ready" | "infer" as what] if model and version:
            return Asked(what, model, version)
    return None


class OpenInference:
    """Answers `/v2`.

    Args:
        catalogue: the models.
        invoke: calls a function.
        readiness: reports which versions do not answer.
        accept: accepts an asynchronous inference; returns None for a synchronous one.
    """

    def __init__(self, catalogue: Catalogue, invoke: Invoke, readiness: Readiness, accept: Accept) -> None:
        self._accept = accept
        self._catalogue = catalogue
        self._invoke = invoke
        self._readiness = readiness

    async def answer(self, event: Mapping[str, Any], stage: ServedStage, deadline_s: float) -> dict[str, Any]:
        """Return the proxy response to one event.

        Raises:
            RequestError: UNKNOWN_PATH, METHOD_NOT_ALLOWED, UNKNOWN_MODEL, UNKNOWN_VERSION, NOT_READY.
        """
        parameters = event.get("pathParameters") or {}
        proxy = f"health/{parameters['check']}" if "check" in parameters else parameters.get("proxy", "")
        asked = parse_path(proxy)
        if asked is None:
            message = f"unknown path /v2/{proxy[:80]}: known are health, models and their versions"
            raise RequestError("UNKNOWN_PATH", message, got=proxy[:80])
        check_method(event, METHOD_OF[asked.what])
        if asked.what == "live":
            return answer_json({"live": True})
        if not asked.model:
            return await self._answer_for_all(asked, stage, deadline_s)
        model = find_model(self._catalogue, asked.model)
        if asked.version:
            find_version(model, asked.version)
        if asked.what == "metadata":
            return answer_json(describe_model(model, asked.version, stage))
        if asked.what == "ready":
            reached = reach(self._catalogue, stage, model, asked.version)
            await self._readiness.check(reached, stage.alias, deadline_s, opens_pooled=True)
            return answer_json({"name": model.name, "ready": True})
        return await self._infer(event, stage, model, asked.version, deadline_s)

    async def _answer_for_all(self, asked: Asked, stage: ServedStage, deadline_s: float) -> dict[str, Any]:
        if asked.what == "metadata":
            return answer_json({"name": "turnout", "version": self._catalogue.release, "extensions": EXTENSIONS})
        await self._readiness.check(reach_all(self._catalogue, stage), stage.alias, deadline_s)
        return answer_json({"ready": True})

    async def _infer(
        self, event: Mapping[str, Any], stage: ServedStage, model: ModelEntry, version: str, deadline_s: float
    ) -> dict[str, Any]:
        taken = self._accept(event, stage, model, version)
        if taken is not None:
            return taken
        chosen = version or stage.choice_of(model)
        function = self._catalogue.function_of(model.name, chosen)
        path = f"/models/{model.name}/{version}/inference" if version else f"/models/{model.name}/inference"
        handed = {**handed_on(event), "resource": path, "path": path, "pathParameters": None}
        handed = self._catalogue.aim(handed, model.name, chosen)
        answered = check_answered(await self._invoke(function, stage.alias, handed, deadline_s=deadline_s))
        return convert_error(answer_failure(answered.error) if answered.answer is None else answered.answer)


def convert_error(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response to an error.

    An error in API Gateway's format, which the protocol's clients do not read, is converted.
    """
    if "x-amzn-ErrorType" not in (answer.get("headers") or {}):
        return dict(answer)
    body = json.dumps({"error": json.loads(answer["body"])["message"]})
    return {**answer, "body": body}


def describe_model(model: ModelEntry, version: str, stage: ServedStage) -> dict[str, Any]:
    """Return the protocol's model metadata; without a version, of the version that gets most of the stage's calls."""
    shares = stage.shares_of(model)
    version = version or max(shares, key=shares.__getitem__, default="")
    known = model.versions.get(version) or next(iter(model.versions.values()), None)
    signature = model.signature if known is None else known.signature
    return {
        "name": model.name,
        "versions": list(model.versions),
        "platform": GRAPH_PLATFORM if known is None else known.platform,
        "inputs": [_tensor(tensor) for tensor in signature["inputs"]],
        "outputs": [_tensor(tensor) for tensor in signature["outputs"]],
    }


def _tensor(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tensor's metadata.

    If its rank is unknown, the shape is null: a list of any length would state a rank.
    """
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": spec["shape"]}
