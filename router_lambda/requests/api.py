"""The API's paths for requests: show, answer, cancel, announce a body, accept with a given identifier."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from turnout.protocol.aws.cors import cors_headers
from turnout.protocol.aws.events import make_answer, read_event
from turnout.protocol.aws_requests.acceptance import CallTarget, accept
from turnout.protocol.aws_requests.answers import (
    LARGEST_DIRECT_BYTES,
    answer_json,
    find_answer_address,
    refuse,
    show,
)
from turnout.protocol.aws_requests.callers import find_caller
from turnout.protocol.aws_requests.record import Record
from turnout.protocol.aws_requests.store import RequestStore
from turnout.protocol.aws_requests.uploads import announce
from turnout.protocol.naming import ROUTER
from turnout.protocol.requests.description import spell_time
from turnout.protocol.requests.preferences import check_identifier, wants_later
from turnout.protocol.requests.refusals import Refusal, describe_unknown_target
from turnout.protocol.requests.states import RequestState, StepError
from turnout.protocol.requests.uploads import MB, describe_upload, read_wish
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry

from ..general.serving import ServedStage

RESOURCES = frozenset({"/requests/{id}", "/requests/{id}/answer", "/uploads"})


class RequestPaths:
    """Answers calls of the paths for asynchronous requests.

    Args:
        store: of the requests.
        catalogue: the models that can be called.
    """

    def __init__(self, store: RequestStore, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    def accepts(self, stage: str) -> bool:
        """Whether a stage accepts asynchronous requests."""
        return stage in self._store.settings.stages

    def accept_call(
        self, event: Mapping[str, Any], stage: ServedStage, model: ModelEntry, version: str
    ) -> dict[str, Any] | None:
        """Accept an asynchronous inference; return None for a synchronous one."""
        if not wants_later(event) or not self.accepts(stage.name):
            return None
        return self._accept(event, stage, model, version)

    def answer(self, event: Mapping[str, Any], stage: ServedStage) -> dict[str, Any]:
        """Return the proxy answer to one event of `RESOURCES`."""
        try:
            return self._answer(event, stage)
        except Refusal as refusal:
            return refuse(event, refusal)

    def _answer(self, event: Mapping[str, Any], stage: ServedStage) -> dict[str, Any]:
        if not self.accepts(stage.name):
            message = f"the stage {stage.name} accepts no asynchronous requests: models.yaml has no `async` there"
            raise Refusal("ASYNC_NOT_ENABLED", message)
        if event["resource"] == "/uploads":
            return self._announce(event, stage)
        identifier = unquote((event.get("pathParameters") or {}).get("id", ""))
        check_identifier(identifier)
        if event["httpMethod"] == "PUT":
            return self._put(event, stage, identifier)
        record = self._find(event, stage, identifier)
        if event["httpMethod"] == "DELETE":
            return self._cancel(event, record)
        if event["resource"].endswith("/answer"):
            return self._give_answer(event, record)
        return show(event, self._store, record)

    def _find(self, event: Mapping[str, Any], stage: ServedStage, identifier: str) -> Record:
        """Return the request if it is the caller's; for other callers it does not exist."""
        record = self._store.find(stage.name, identifier)
        if record is None or record.caller != find_caller(event):
            message = f"there is no request {identifier}: it does not exist or has expired"
            raise Refusal("UNKNOWN_REQUEST", message, id=identifier)
        return record

    def _cancel(self, event: Mapping[str, Any], record: Record) -> dict[str, Any]:
        try:
            canceled = self._store.cancel(record.stage, record.id)
        except StepError as error:
            message = f"the request cannot be canceled: it is {error.state}"
            raise Refusal("HAS_BEGUN", message, state=str(error.state)) from None
        return show(event, self._store, canceled or record)

    def _give_answer(self, event: Mapping[str, Any], record: Record) -> dict[str, Any]:
        state, answer = record.progress.state, record.answer
        if state is RequestState.FAILED:
            return answer_json(event, record.failure, answer.status if answer.status >= 400 else 500)
        if state is not RequestState.DONE:
            raise Refusal("NOT_DONE", f"the request has no answer: it is {state}", state=str(state))
        if answer.size > LARGEST_DIRECT_BYTES:
            address = find_answer_address(event, self._store, record)
            return make_answer(303, {"Location": address, **cors_headers(event)}, b"")
        entry = self._store.bucket.read(answer.key)
        if entry is None:
            raise Refusal("UNKNOWN_REQUEST", f"the answer of {record.id} has been deleted", id=record.id)
        return {
            "statusCode": answer.status,
            "headers": {**answer.headers, **cors_headers(event)},
            "body": base64.b64encode(entry[0]).decode(),
            "isBase64Encoded": True,
        }

    def _announce(self, event: Mapping[str, Any], stage: ServedStage) -> dict[str, Any]:
        _, body = read_event(event)
        size, digest = read_wish(body, self._store.settings.stages[stage.name].max_body_mb * MB)
        upload, addresses = announce(self._store, stage.name, find_caller(event), size, digest)
        return answer_json(event, describe_upload(upload.id, size, addresses, spell_time(upload.expires)), 201)

    def _put(self, event: Mapping[str, Any], stage: ServedStage, identifier: str) -> dict[str, Any]:
        """Accept the inference in the query."""
        query = event.get("queryStringParameters") or {}
        name, version = query.get("model", ""), query.get("version", "")
        if not name:
            message = "the query has no `model`: PUT /requests/ID?model=NAME, and `&version=NAME` for one version"
            raise Refusal("INVALID_TARGET", message)
        model = self._catalogue.models.get(name)
        if model is None or (version and version not in model.versions):
            raise Refusal("INVALID_TARGET", describe_unknown_target(name, version))
        return self._accept(event, stage, model, version, identifier)

    def _accept(
        self, event: Mapping[str, Any], stage: ServedStage, model: ModelEntry, version: str, identifier: str = ""
    ) -> dict[str, Any]:
        choice = version or stage.choice_of(model)
        if not choice:
            raise Refusal("INVALID_TARGET", f"the stage {stage.name} serves no version of {model.name}")
        target = CallTarget(
            self._catalogue.function_of(model.name, choice),
            model.name,
            "" if choice == ROUTER else choice,
            f"/models/{model.name}/{version}/inference" if version else f"/models/{model.name}/inference",
        )
        return accept(self._store, event, target, identifier)
