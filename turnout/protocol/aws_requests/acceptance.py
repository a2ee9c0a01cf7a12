"""Accepts an asynchronous call: stores its body and its request, and sends the message.

The function that API Gateway calls accepts it: a version's own, a model's router or the general router. The share, the
variables and the function are chosen at that time.
"""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.aws.events import is_canary, read_event
from turnout.protocol.aws_requests.answers import accepted, answer_json, refuse
from turnout.protocol.aws_requests.callers import find_caller, headers_of
from turnout.protocol.aws_requests.record import BodyObject, Record, body_key
from turnout.protocol.aws_requests.settings import StageRules
from turnout.protocol.aws_requests.store import RequestStore
from turnout.protocol.aws_requests.uploads import take
from turnout.protocol.errors import RequestError
from turnout.protocol.naming import ALIAS_VARIABLE, CALLBACK_HEADER, LIVE, UPLOAD_HEADER
from turnout.protocol.requests import states
from turnout.protocol.requests.callbacks import check_callback
from turnout.protocol.requests.fingerprints import CallFingerprint, fingerprint_call, is_same, without_secrets
from turnout.protocol.requests.preferences import check_identifier
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import RequestState
from turnout.protocol.requests.uploads import MB


@dataclass(frozen=True, slots=True)
class CallTarget:
    """The call to make.

    Args:
        function: the called function.
        model: the called model.
        version: the called version; empty if a router chooses.
        path: path of the call, without the stage.
    """

    function: str
    model: str
    version: str
    path: str


def accept(store: RequestStore, event: Mapping[str, Any], target: CallTarget, identifier: str = "") -> dict[str, Any]:
    """Accept a call, and return the proxy answer.

    Args:
        store: store of the requests.
        event: event of the call, in a stage that accepts asynchronous requests.
        target: the call to make.
        identifier: the caller's identifier; empty for a generated one.
    """
    try:
        record, is_new = _accept(store, event, target, identifier)
    except Refusal as refusal:
        return refuse(event, refusal)
    except RequestError as error:  # the body is not what the event says it is
        return answer_json(event, error.body(), error.status)
    return accepted(event, store, record, is_new=is_new)


def _accept(store: RequestStore, event: Mapping[str, Any], target: CallTarget, identifier: str) -> tuple[Record, bool]:
    headers, body = read_event({**event, "turnout": None})
    stage = event["requestContext"]["stage"]
    rules, caller = store.settings.stages[stage], find_caller(event)
    callback, upload = headers.get(CALLBACK_HEADER, ""), headers.get(UPLOAD_HEADER, "")
    if identifier:
        check_identifier(identifier)
    if callback:
        check_callback(callback, rules)
    if upload and body:
        raise Refusal("INVALID_UPLOAD", f"the request has a body and the header {UPLOAD_HEADER}: send one of them")
    called = fingerprint_call(target.path, headers, callback)
    digest = "" if upload else hashlib.sha256(body).hexdigest()
    if identifier:
        repeated = _find_repeated(store, stage, identifier, caller, called, digest, upload)
        if repeated is not None:
            return repeated, False
    name = identifier or str(event["requestContext"].get("requestId") or uuid.uuid4())
    content = take(store, stage, caller, upload, name) if upload else _keep(store, stage, body, rules)
    fingerprint = CallFingerprint(called, digest or content.sha256, upload)
    record = _make_record(store, event, target, name, caller, str(fingerprint), content)
    if store.create(record):
        return record, True
    repeated = _find_repeated(store, stage, name, caller, called, digest, upload)  # sent twice at once
    if not upload and content.key:
        store.bucket.delete(content.key)
    if repeated is None:
        raise _taken(name)
    return repeated, False


def _find_repeated(
    store: RequestStore, stage: str, identifier: str, caller: str, called: str, digest: str, upload: str
) -> Record | None:
    """Return the same request if it was sent before with the caller's identifier, or None.

    Raises:
        Refusal: IDENTIFIER_TAKEN, by another request.
    """
    record = store.find(stage, identifier)
    if record is None:
        return None
    if record.caller != caller or not is_same(record.fingerprint, called, digest, upload):
        raise _taken(identifier)
    if record.progress.state is RequestState.QUEUED and not record.progress.attempts:
        store.send(record)  # the function may have ended before it sent the message; a second one does nothing
    return record


def _taken(identifier: str) -> Refusal:
    return Refusal("IDENTIFIER_TAKEN", f"the identifier {identifier} belongs to another request", id=identifier)


def _keep(store: RequestStore, stage: str, body: bytes, rules: StageRules) -> BodyObject:
    largest = rules.max_body_mb * MB
    if len(body) > largest:
        message = f"the body: expected at most {largest} bytes, got {len(body)}"
        raise Refusal("BODY_TOO_LARGE", message, expected=largest, got=len(body))
    if not body:
        return BodyObject()
    key = body_key(stage, uuid.uuid4().hex)
    store.bucket.put(key, body)
    return BodyObject(key, len(body))


def _spell_call(event: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the event of the call itself without its body, whichever path the caller used."""
    context = {**event["requestContext"], "httpMethod": "POST", "resourcePath": path}
    return {
        **event,
        "resource": path,
        "path": path,
        "httpMethod": "POST",
        "pathParameters": None,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": context,
        "body": None,
        "isBase64Encoded": False,
    }


def _make_record(
    store: RequestStore,
    event: Mapping[str, Any],
    target: CallTarget,
    name: str,
    caller: str,
    fingerprint: str,
    body: BodyObject,
) -> Record:
    stage = event["requestContext"]["stage"]
    rules = store.settings.stages[stage]
    draw = random.random()  # noqa: S311 - routers choose a version by it, so each run makes the same choice
    stored = {**_spell_call(without_secrets(event), target.path), "turnout": {"draw": draw}}
    return Record(
        id=name,
        stage=stage,
        caller=caller,
        fingerprint=fingerprint,
        function=target.function,
        alias=(event.get("stageVariables") or {}).get(ALIAS_VARIABLE, LIVE),
        is_canary=is_canary(event),
        model=target.model,
        version=target.version,
        path=target.path,
        event=stored,
        progress=states.accept(store.clock(), rules.time_to_live_s, rules.max_attempts),
        body=body,
        max_answer_bytes=rules.max_body_mb * MB,
        callback=headers_of(event).get(CALLBACK_HEADER, ""),
        callback_private=rules.allow_private_callbacks,
    )
