"""Asynchronous requests over HTTP: accept, show, answer, cancel, announce a body."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from turnout.gateway.api.asynchronous import AsyncCall
from turnout.gateway.api.exchange import Exchange, Routed
from turnout.gateway.api.fields import HOST, fields_of
from turnout.gateway.api.pages import TRANSFER_HEADERS, answer_pages, answer_preflight, with_cors
from turnout.gateway.requests import store
from turnout.gateway.requests.acceptance import find_caller, make_request
from turnout.gateway.requests.files import Content
from turnout.gateway.requests.policies import MB, Policies
from turnout.gateway.requests.pump import Observe
from turnout.gateway.requests.queue import Queue, refusing_when_full
from turnout.gateway.requests.rows import NewRequest, Stored
from turnout.gateway.requests.signing import sign_address
from turnout.gateway.requests.transfers import Transfers, answer_path, part_path
from turnout.gateway.requests.uploads import Upload, announce, find_upload, take_content
from turnout.http_server.messages import BodySink, Request, Response
from turnout.manifest.access import Cors
from turnout.manifest.values import Asynchronous
from turnout.protocol.aws.cors import make_cors_variables
from turnout.protocol.naming import CALLBACK_HEADER, TRANSFER_SEGMENT, UPLOAD_HEADER
from turnout.protocol.requests.callbacks import check_callback
from turnout.protocol.requests.description import api_answer_path, describe, spell_time
from turnout.protocol.requests.fingerprints import CallFingerprint, fingerprint_call, is_same
from turnout.protocol.requests.preferences import check_identifier
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import ENDED, RequestState, StepError
from turnout.protocol.requests.uploads import PART_BYTES, UPLOAD_S, describe_upload, read_wish

log = logging.getLogger("turnout.requests")

RETRY_AFTER_S = 1
LARGEST_DIRECT_BYTES = 4 * MB
"""The largest answer that `/requests/{id}/answer` returns itself: what fits into a function's answer in base64."""

ADDRESS_S = 3600.0
"""How long a signed address of an answer can be used."""

QUICK_BYTES = 65_536
"""A body up to this size is digested on the event loop, 0.1 ms."""

_JSON = ("Content-Type", "application/json")


class RequestsApi:
    """Implements `turnout.gateway.api.asynchronous.AsyncRequests` for one edition.

    Args:
        queue: the project's queue.
        policies: the edition's policies.
        observe: called after each run, or None.
    """

    def __init__(self, queue: Queue, policies: Policies, observe: Observe | None = None) -> None:
        self._queue = queue
        self.policies = policies
        self.observe = observe
        self._transfers = Transfers(queue)

    def accepts(self, stage: str) -> bool:
        """Whether a stage accepts asynchronous requests."""
        return stage in self.policies.stages

    async def accept(self, call: AsyncCall) -> Response:
        """Store a call."""
        return await self._answer_or_refuse(call.exchange, self._accept(call))

    async def answer(self, exchange: Exchange, routed: Routed) -> Response:
        """Answer a call about a request or an upload."""
        return await self._answer_or_refuse(exchange, self._answer(exchange, routed))

    def refuse(self, exchange: Exchange, code: str, message: str) -> Response:
        """Reject a request."""
        return _refused(exchange, Refusal(code, message))

    def receive(self, request: Request) -> BodySink | None:
        """Return the sink for a part of an upload."""
        return self._transfers.receive(request)

    def transfer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request to a signed address."""
        cors = self._find_cors(request)
        if cors is None:
            return self._transfers.handle(request)
        if request.method == "OPTIONS":
            return answer_preflight(request, _variables_of(cors), cors.max_age_s)
        return answer_pages(request, _variables_of(cors), self._transfers.handle(request), TRANSFER_HEADERS)

    def admit_transfer(self, request: Request) -> Response | None:
        """Reject a request to a signed address before its body is read."""
        refused, cors = self._transfers.admit(request), self._find_cors(request)
        if refused is None or cors is None:
            return refused
        return with_cors(request, _variables_of(cors), refused, TRANSFER_HEADERS)

    def _find_cors(self, request: Request) -> Cors | None:
        """Return the pages that may use the addresses of the path's stage."""
        stage = request.path.removeprefix(f"/{TRANSFER_SEGMENT}/").partition("/")[0]
        return self.policies.cors.get(stage) if self.accepts(stage) else None

    async def _answer_or_refuse(self, exchange: Exchange, answering: Awaitable[Response]) -> Response:
        try:
            with refusing_when_full():
                return await answering
        except Refusal as refusal:
            return _refused(exchange, refusal)

    # Accept.

    async def _accept(self, call: AsyncCall) -> Response:
        queue, exchange = self._queue, call.exchange
        stage = call.routed.stage.settings.name
        policy = self.policies.stages[stage]
        headers = {name.lower(): value for name, value in call.event["headers"].items()}
        callback, upload_id = headers.get(CALLBACK_HEADER, ""), headers.get(UPLOAD_HEADER, "")
        _check_call(call, policy, callback, upload_id)
        identifier = call.identifier or exchange.request_id
        called = fingerprint_call(call.path, headers, callback)
        repeated = await self._find_repeated(call, stage, called, upload_id)
        if repeated is None:
            try:
                content, digest = await self._take_body(exchange, stage, policy, exchange.request.body, upload_id)
            except Refusal:
                # The same request was sent twice at once, and the other one has just used the upload.
                repeated = await self._find_repeated(call, stage, called, upload_id)
                if repeated is None:
                    raise
        if repeated is not None:
            return self._accepted(exchange, _own(exchange, repeated), is_new=False)
        new = make_request(
            call,
            identifier=identifier,
            fingerprint=CallFingerprint(called, digest, upload_id),
            content=content,
            policy=policy,
            max_answer_bytes=policy.max_body_mb * MB,
            callback=callback,
            now=queue.clock(),
        )
        stored, is_new = await self._store(new, policy.max_stored_mb * MB, upload_id)
        unused = (upload_id if is_new else content.file) if content.file else ""
        if unused:
            await asyncio.to_thread(queue.files.delete, unused)
        if is_new:
            queue.kick()
        return self._accepted(exchange, stored, is_new=is_new)

    async def _find_repeated(self, call: AsyncCall, stage: str, called: str, upload_id: str) -> Stored | None:
        """The request that was made of this upload before, under the caller's identifier."""
        if not (call.identifier and upload_id):
            return None
        there = await self._queue.database.run(
            lambda database: store.find(database, stage, call.identifier), reads=True
        )
        return there if there is not None and is_same(there.fingerprint, called, "", upload_id) else None

    async def _store(self, new: NewRequest, max_stored_bytes: int, upload_id: str) -> tuple[Stored, bool]:
        """Return the stored request, and whether it is new."""
        queue = self._queue
        call, digest, _ = new.fingerprint.split(":")

        def job(database: sqlite3.Connection) -> tuple[Stored, bool]:
            there = store.find(database, new.stage, new.id)
            if there is not None and there.key_id == new.key_id and is_same(there.fingerprint, call, digest, ""):
                return there, False
            store.accept(database, new, max_stored_bytes, upload_id)
            made = store.find(database, new.stage, new.id)
            assert made is not None
            return made, True

        try:
            return await asyncio.shield(queue.database.run(job))
        except Exception:  # not canceled when the caller disconnects: the request may just have been accepted
            if new.body.file:
                await asyncio.to_thread(queue.files.delete, new.body.file)
            raise

    async def _take_body(
        self, exchange: Exchange, stage: str, policy: Asynchronous, body: bytes, upload_id: str
    ) -> tuple[Content, str]:
        """The stored body, and its SHA-256."""
        queue = self._queue
        if upload_id:
            upload = await queue.database.run(lambda database: find_upload(database, upload_id), reads=True)
            is_known = upload is not None and upload.stage == stage and upload.key_id == find_caller(exchange)
            unknown = Refusal("UNKNOWN_UPLOAD", f"there is no upload {upload_id[:50]}: it expired, or has been used")
            if upload is None or not is_known or upload.expires <= queue.clock():
                raise unknown
            queue.check_disk(upload.size)
            try:
                return await asyncio.to_thread(take_content, queue.files, upload)
            except FileNotFoundError:  # another request has used it in the meantime
                raise unknown from None
        if len(body) > policy.max_body_mb * MB:
            message = f"the body: expected at most {policy.max_body_mb * MB} bytes, got {len(body)}"
            raise Refusal("BODY_TOO_LARGE", message, expected=policy.max_body_mb * MB, got=len(body))
        if len(body) <= QUICK_BYTES:
            queue.check_disk(len(body))
        if len(body) <= QUICK_BYTES // 4:
            return queue.files.keep(body), hashlib.sha256(body).hexdigest()
        return await asyncio.to_thread(lambda: (queue.files.keep(body), hashlib.sha256(body).hexdigest()))

    def _accepted(self, exchange: Exchange, stored: Stored, *, is_new: bool) -> Response:
        headers = [("Location", f"{_prefix(exchange)}/requests/{stored.description.id}")]
        if not stored.progress.has_ended:
            headers.append(("Retry-After", str(RETRY_AFTER_S)))
        if exchange.request.method == "POST":
            headers.append(("Preference-Applied", "respond-async"))
        return self._shown(exchange, stored, 202 if is_new else 200, headers)

    # Show, answer, cancel.

    async def _answer(self, exchange: Exchange, routed: Routed) -> Response:
        stage, method = routed.stage.settings.name, exchange.request.method
        if not self.accepts(stage):
            message = f"the stage {stage} accepts no asynchronous requests: models.yaml has no `async` there"
            raise Refusal("ASYNC_NOT_ENABLED", message)
        if routed.operation.resource == "/uploads":
            return await self._announce(exchange, stage)
        identifier = (routed.parameters or {}).get("id", "")
        check_identifier(identifier)
        if method == "DELETE":
            return await self._cancel(exchange, stage, identifier)
        stored = await self._find(exchange, stage, identifier)
        if routed.operation.resource.endswith("/answer"):
            return await self._give_answer(exchange, stored)
        headers = [] if stored.progress.has_ended else [("Retry-After", str(RETRY_AFTER_S))]
        return self._shown(exchange, stored, 200, headers)

    async def _find(self, exchange: Exchange, stage: str, identifier: str) -> Stored:
        stored = await self._queue.database.run(lambda database: store.find(database, stage, identifier), reads=True)
        if stored is None:
            raise _unknown(identifier)
        return _own(exchange, stored)

    async def _cancel(self, exchange: Exchange, stage: str, identifier: str) -> Response:
        await self._find(exchange, stage, identifier)
        now = self._queue.clock()
        try:
            canceled = await asyncio.shield(
                self._queue.database.run(lambda database: store.cancel(database, stage, identifier, now))
            )
        except StepError as error:
            message = f"the request cannot be canceled: it is {error.state}"
            raise Refusal("HAS_BEGUN", message, state=str(error.state)) from None
        if canceled is None:
            raise _unknown(identifier)
        return self._shown(exchange, canceled, 200, [])

    async def _give_answer(self, exchange: Exchange, stored: Stored) -> Response:
        state, answer = stored.progress.state, stored.answer
        if state is RequestState.FAILED:
            status = answer.status if answer.status >= 400 else 500
            return Response(status, (_JSON, *_own_headers(exchange)), orjson.dumps(dict(answer.failure)))
        if state is not RequestState.DONE:
            message = f"the request has no answer: it is {state}"
            raise Refusal("NOT_DONE", message, state=str(state))
        if answer.content.size > LARGEST_DIRECT_BYTES:
            address = self._answer_address(exchange, stored)
            return Response(303, (("Location", address), *_own_headers(exchange)))
        body = await asyncio.to_thread(self._queue.files.read, answer.content)
        return Response(answer.status, (*answer.headers, *_own_headers(exchange)), body)

    def _shown(self, exchange: Exchange, stored: Stored, status: int, headers: list[tuple[str, str]]) -> Response:
        known = stored.description
        address = api_answer_path(_prefix(exchange), known.id)
        if known.answer_bytes > LARGEST_DIRECT_BYTES:
            address = self._answer_address(exchange, stored)
        shown = describe(stored.progress, replace(known, answer_address=address))
        return _json(exchange, status, shown, headers)

    def _answer_address(self, exchange: Exchange, stored: Stored) -> str:
        now, known = self._queue.clock(), stored.description
        expires = min(now + ADDRESS_S, stored.progress.expires)
        path = answer_path(known.stage, known.id)
        return _base(exchange) + sign_address(self._queue.secret, "GET", path, expires, known.answer_bytes)

    # Announce.

    async def _announce(self, exchange: Exchange, stage: str) -> Response:
        queue, policy = self._queue, self.policies.stages[stage]
        size, digest = read_wish(exchange.request.body, policy.max_body_mb * MB)
        queue.check_disk(size)
        expires = queue.clock() + UPLOAD_S
        upload = Upload(queue.files.new_name(), stage, find_caller(exchange), size, digest, PART_BYTES, expires)
        max_stored_bytes = policy.max_stored_mb * MB
        await queue.database.run(lambda database: announce(database, upload, max_stored_bytes))
        base = _base(exchange)
        addresses = [
            base + sign_address(queue.secret, "PUT", part_path(stage, upload.id, number), expires, part_size)
            for number, part_size in enumerate(upload.part_sizes)
        ]
        return _json(exchange, 201, describe_upload(upload.id, size, addresses, spell_time(expires)), [])


def _check_call(call: AsyncCall, policy: Asynchronous, callback: str, upload_id: str) -> None:
    """Check the headers of a call.

    Raises:
        Refusal: INVALID_IDENTIFIER, INVALID_CALLBACK or INVALID_UPLOAD.
    """
    if call.identifier:
        check_identifier(call.identifier)
    if callback:
        check_callback(callback, policy)
    if upload_id and call.exchange.request.body:
        raise Refusal("INVALID_UPLOAD", f"the request has a body and the header {UPLOAD_HEADER}: send one of them")


def _own(exchange: Exchange, stored: Stored) -> Stored:
    """The request, if it is the caller's.

    Raises:
        Refusal: UNKNOWN_REQUEST, so that other callers do not learn that it exists.
    """
    if stored.key_id != find_caller(exchange):
        raise _unknown(stored.description.id)
    return stored


def _unknown(identifier: str) -> Refusal:
    return Refusal(
        "UNKNOWN_REQUEST", f"there is no request {identifier}: it does not exist or has expired", id=identifier
    )


def _prefix(exchange: Exchange) -> str:
    """The path before the API's own paths in the caller's address: a domain's base path, the stage, or nothing."""
    path = exchange.request.path
    if exchange.request.method == "POST" and path.endswith(exchange.path):
        return path[: -len(exchange.path)]
    return path.rpartition("/requests/")[0]


def _base(exchange: Exchange) -> str:
    """The server's address as the caller knows it."""
    fields = fields_of(exchange.request)
    scheme = next((value for name, value in exchange.request.headers if name.lower() == "x-forwarded-proto"), "http")
    return f"{scheme if scheme in {'http', 'https'} else 'http'}://{fields.known[HOST] or 'localhost'}"


def _own_headers(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    return (("x-amzn-RequestId", exchange.request_id), ("x-amz-apigw-id", exchange.extended_request_id))


def _json(exchange: Exchange, status: int, value: Mapping[str, Any], headers: list[tuple[str, str]]) -> Response:
    return Response(status, (_JSON, *headers, *_own_headers(exchange)), orjson.dumps(value))


def _refused(exchange: Exchange, refusal: Refusal) -> Response:
    headers = []
    if refusal.code in {"QUEUE_FULL", "STORAGE_FULL"}:
        headers.append(("Retry-After", "60"))
    elif refusal.code == "NOT_DONE" and refusal.details["state"] not in ENDED:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    return _json(exchange, refusal.status, refusal.body(), headers)


def _variables_of(cors: Cors) -> dict[str, str]:
    """Return the variables that a stage with this `cors` has."""
    return make_cors_variables(cors.origins, credentials=cors.credentials)
