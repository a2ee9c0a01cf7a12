"""The general router: catalogue, health, document, Open Inference Protocol, and models without routes of their own."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from turnout.protocol.errors import RequestError
from turnout.protocol.requests.preferences import wants_later
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry
from turnout.protocol.routing.choice import handed_on
from turnout.protocol.routing.choice_tables import FindTable, no_tables
from turnout.protocol.routing.invocation import Invoke

from ..proxy_answers import answer_error, answer_failure, check_answered, with_cors, with_headers
from ..tasks import AsyncioTasks, Tasks
from .catalogue import find_model, find_version, list_models, show_model, show_version
from .open_inference import OpenInference
from .pages import answer_json, answer_text
from .readiness import Readiness
from .serving import ServedStage, reach_all

if TYPE_CHECKING:
    from ..requests.api import RequestPaths

_LOG = logging.getLogger("turnout.router")


def accept_none() -> RequestPaths | None:
    """Accept no asynchronous requests: no stage does, or the gateway itself handles them."""
    return None


class GeneralRouter:
    """Answers the paths that belong to no single model.

    Args:
        catalogue: the models.
        invoke: calls a function; several calls may run at once.
        clock: monotonic clock in seconds, also used for deadlines.
        tasks: runs coroutines concurrently; asyncio's tasks by default.
        requests: returns the handler of asynchronous requests.
        tables: finds a stage's table of choices.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        invoke: Invoke,
        *,
        clock: Callable[[], float] = time.monotonic,
        tasks: Tasks | None = None,
        requests: Callable[[], RequestPaths | None] = accept_none,
        tables: FindTable = no_tables,
    ) -> None:
        self._tables = tables
        self._catalogue = catalogue
        self._invoke = invoke
        self._requests = requests
        self._readiness = Readiness(invoke, tasks or AsyncioTasks(), clock)
        self._open_inference = OpenInference(catalogue, invoke, self._readiness, self._accept)

    async def answer(self, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Return the proxy response to an event.

        Args:
            event: API Gateway's proxy event.
            deadline_s: when the caller gives up, as a time of the clock.
        """
        return with_cors(await self._answer_or_refuse(event, deadline_s), event)

    async def _answer_or_refuse(self, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        try:
            return await self._answer(event, deadline_s)
        except RequestError as error:
            answer = answer_error(error)
            return with_headers(answer, {"Allow": error.details["expected"]}) if error.status == 405 else answer
        except Exception:
            _LOG.exception("the general router failed")
            return answer_failure("failed")

    async def _answer(self, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        stage = ServedStage.of(event, self._tables)
        match event["resource"]:
            case "/v2" | "/v2/health/{check}" | "/v2/{proxy+}":
                return await self._open_inference.answer(event, stage, deadline_s)
            case "/health/ready":
                await self._readiness.check(reach_all(self._catalogue, stage), stage.alias, deadline_s)
                return answer_json({"ready": True})
            case "/health/live":
                return answer_json({"live": True})
            case "/openapi.json":
                return self._show_document(stage, event)
            case "/models/{model}/inference" | "/models/{model}/{version}/inference":
                return await self._infer(event, stage, deadline_s)
            case "/models" | "/models/{model}" | "/models/{model}/{version}":
                return self._show_catalogue(stage, event, **(event.get("pathParameters") or {}))
            case "/requests/{id}" | "/requests/{id}/answer" | "/uploads":
                requests = self._requests()
                if requests is not None:
                    return requests.answer(event, stage)
        raise RequestError("UNKNOWN_PATH", f"the general router does not serve {event['resource']}")

    async def _infer(self, event: Mapping[str, Any], stage: ServedStage, deadline_s: float) -> dict[str, Any]:
        """Forward a call to its version or its model's router; if there is none, respond as API Gateway does."""
        parameters = event["pathParameters"]
        model, version = self._catalogue.models.get(parameters["model"]), parameters.get("version", "")
        if model is None or (version and version not in model.versions):
            return answer_failure("unknown_route")
        taken = self._accept(event, stage, model, version)
        if taken is not None:
            return taken
        path = f"/models/{model.name}/{version}/inference" if version else f"/models/{model.name}/inference"
        handed = {**handed_on(event), "resource": path, "pathParameters": None}
        chosen = version or stage.choice_of(model)
        handed = self._catalogue.aim(handed, model.name, chosen)
        function = self._catalogue.function_of(model.name, chosen)
        answered = check_answered(await self._invoke(function, stage.alias, handed, deadline_s=deadline_s))
        return answer_failure(answered.error) if answered.answer is None else dict(answered.answer)

    def _accept(
        self, event: Mapping[str, Any], stage: ServedStage, model: ModelEntry, version: str
    ) -> dict[str, Any] | None:
        """Accept an asynchronous inference; return None for a synchronous one."""
        if not wants_later(event):
            return None
        requests = self._requests()
        return None if requests is None else requests.accept_call(event, stage, model, version)

    def _show_catalogue(
        self, stage: ServedStage, event: Mapping[str, Any], model: str = "", version: str = ""
    ) -> dict[str, Any]:
        if not model:
            return answer_json(list_models(self._catalogue, stage), event=event)
        entry = find_model(self._catalogue, unquote(model))
        if not version:
            return answer_json(show_model(entry, stage))
        if version == "inference":
            message = f"{stage.base}/models/{entry.name}/inference: expected POST, got GET"
            raise RequestError("METHOD_NOT_ALLOWED", message, expected="POST", got="GET")
        return answer_json(show_version(entry, find_version(entry, unquote(version)), stage))

    def _show_document(self, stage: ServedStage, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stage's document with its address, the only part that differs between callers."""
        text = self._catalogue.documents.get(stage.name)
        if text is None:
            message = f"the stage `{stage.name}` is not in models.yaml, so it has no OpenAPI document"
            raise RequestError("UNKNOWN_PATH", message, got=stage.name)
        servers = json.dumps([{"url": f"{stage.origin}{stage.base}"}])
        return answer_text(f'{{"servers":{servers},{text[1:]}', event=event)
