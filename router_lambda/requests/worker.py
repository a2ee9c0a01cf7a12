"""Runs stored requests: takes a message, calls the version's function by its alias, and writes the result.

One queue serves all functions of a stack, so an idle version costs nothing, and a removed version takes no request with
it. The queue delivers at least once; the request's state determines what a message may do.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from turnout.protocol.aws_requests.messages import RequestMessage
from turnout.protocol.aws_requests.record import AnswerObject, Record
from turnout.protocol.aws_requests.running import STORED, make_run_event, metadata_of, read_answer
from turnout.protocol.aws_requests.settings import GRACE_S
from turnout.protocol.aws_requests.store import EXPIRED, ReadRecord, RequestStore, describe_lost, end
from turnout.protocol.naming import ASYNC_ALIASES, LIVE, VERSION_HEADER
from turnout.protocol.requests import states
from turnout.protocol.requests.description import api_answer_path
from turnout.protocol.requests.outcomes import (
    Outcome,
    describe_error,
    judge_error,
    judge_status,
    read_failure,
    status_of_error,
)
from turnout.protocol.requests.states import Progress, RequestState
from turnout.protocol.requests.webhooks import FIRST_BACK_OFF_S, MOST_TRIES, CallbackError, send_webhook
from turnout.protocol.routing.invocation import Answered, Invoke

from ..proxy_answers import check_answered, status_of
from ..tasks import run_to_end

_LOG = logging.getLogger("turnout.requests")

THROTTLED_S = 10.0
"""Pause before a throttled request runs again. Each attempt costs two writes to S3."""

MARGIN_S = 1.0
"""Time that is reserved of Lambda's limit to write the result of a run."""

Deliver = Callable[..., None]
"""`turnout.protocol.requests.webhooks.send_webhook`."""


class NotNowError(Exception):
    """A message that must be delivered again later."""


class RequestWorker:
    """Processes messages, one at a time.

    Args:
        store: of the requests.
        invoke: calls a function.
        deliver: sends a webhook.
        monotonic: returns seconds, for deadlines.
    """

    def __init__(
        self,
        store: RequestStore,
        invoke: Invoke,
        *,
        deliver: Deliver = send_webhook,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._invoke = invoke
        self._deliver = deliver
        self._monotonic = monotonic

    def handle(self, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Process a batch, and return the messages to deliver again (`ReportBatchItemFailures`).

        Args:
            event: Lambda's event of a queue.
            deadline_s: when Lambda ends the function, in the time of the monotonic clock.
        """
        failed = []
        for entry in event["Records"]:
            try:
                self._work(RequestMessage.from_json(entry["body"]), entry["receiptHandle"], deadline_s)
            except NotNowError as reason:
                _LOG.info("message %s comes back later: %s", entry["messageId"], reason)
                failed.append({"itemIdentifier": entry["messageId"]})
            except Exception:
                _LOG.exception("message %s failed", entry["messageId"])
                failed.append({"itemIdentifier": entry["messageId"]})
        return {"batchItemFailures": failed}

    def _work(self, message: RequestMessage, receipt: str, deadline_s: float) -> None:
        entry = self._store.read(message.stage, message.id)
        if entry is None:
            return  # deleted, so no caller waits for it
        if message.callback:
            self._call_back(entry.record, message.callback)
            return
        now, record = self._store.clock(), entry.record
        progress = record.progress
        if progress.has_ended:
            self._store.call_back(record)  # the worker that ended it may have ended before it sent this message
            return
        if progress.state is RequestState.RUNNING:
            self._take_over(entry, receipt, now)
        elif now >= progress.expires:
            expired = replace(record, failure=record.failure or EXPIRED)
            self._end(entry, expired, lambda current: states.expire(current, now))
        elif now < progress.not_before:
            self._store.send(record, progress.not_before - now)
        else:
            self._run(entry, receipt, now, deadline_s)

    def _take_over(self, entry: ReadRecord, receipt: str, now: float) -> None:
        """Handle another delivery of a running request: it is a duplicate, or its worker has ended."""
        record = entry.record
        over_at = (record.progress.begun or 0.0) + self._store.settings.timeout_s(record.function) + GRACE_S
        if now < over_at:
            self._store.queues.hide(receipt, over_at - now)
            raise NotNowError("the request runs")
        answer = read_answer(self._store.bucket, record.answer_key)
        if answer is not None:
            self._end(entry, _answered(record, answer), lambda current: states.succeed(current, now))
            return
        failed = replace(record, failure=describe_lost(record.progress.attempts))
        self._end(entry, failed, lambda current: states.fail(current, now))

    def _run(self, entry: ReadRecord, receipt: str, now: float, deadline_s: float) -> None:
        timeout_s = self._store.settings.timeout_s(entry.record.function)
        self._store.queues.hide(receipt, timeout_s + GRACE_S)
        begun = self._store.write(entry, replace(entry.record, progress=states.begin(entry.record.progress, now)))
        if begun is None:
            raise NotNowError("another worker, or the caller, changed the request at this moment")
        record = begun.record
        started_s = self._monotonic()
        limit_s = min(started_s + timeout_s + GRACE_S, deadline_s - MARGIN_S)
        answered = run_to_end(self._call(record, limit_s))
        if answered.error == "timed_out" and self._monotonic() < started_s + timeout_s:
            # The function has time left and stores its answer by itself. The message comes back when it has ended.
            raise NotNowError("the run takes longer than the rest of this worker's time")
        outcome, after = self._read(record, check_answered(answered))
        ended = self._store.clock()
        match outcome:
            case Outcome.DONE:
                self._end(begun, after, lambda current: states.succeed(current, ended))
            case Outcome.NO_ROOM:
                self._end(begun, record, lambda current: states.give_back(current, ended, THROTTLED_S))
            case _:
                is_final = outcome is Outcome.FINAL
                self._end(begun, after, lambda current: states.fail(current, ended, is_final=is_final))

    async def _call(self, record: Record, deadline_s: float) -> Answered:
        answered = Answered(None, "unknown_function", "no alias")
        # If a release canary has ended meanwhile, what it called is live now, or was taken back.
        for alias in dict.fromkeys((record.alias, LIVE)):
            own = ASYNC_ALIASES.get(alias, alias)
            answered = await self._invoke(record.function, own, make_run_event(record, own), deadline_s=deadline_s)
            if answered.error != "unknown_function":
                break
        return answered

    def _read(self, record: Record, answered: Answered) -> tuple[Outcome, Record]:
        """Return the outcome of a call for its request, and the record with its answer or its failure."""
        answer = answered.answer
        if answer is None:
            error = answered.error or "failed"
            _LOG.error("request %s: %s: %s: %s", record.id, record.function, error, answered.message)
            failure = describe_error(error, record.progress.attempts)
            return judge_error(error), _failed(record, status_of_error(error), failure)
        status = status_of(answer)
        outcome = judge_status(status)
        headers = {name: str(value) for name, value in (answer.get("headers") or {}).items()}
        if outcome is not Outcome.DONE:
            failure = read_failure(status, _body_of(answer))
            version = _find(headers, VERSION_HEADER) or record.version
            return outcome, replace(_failed(record, status, failure), version=version)
        stored = (answer.get("turnout") or {}).get(STORED)
        if stored is not None:
            kept = AnswerObject(stored["key"], status, headers, stored["bytes"], stored["sha256"])
        else:
            kept = self._keep(record, status, headers, _body_of(answer))
        return outcome, _answered(record, kept)

    def _keep(self, record: Record, status: int, headers: Mapping[str, str], body: bytes) -> AnswerObject:
        """Store the answer of a function that has not stored it itself."""
        import hashlib

        kept = AnswerObject(record.answer_key, status, headers, len(body), hashlib.sha256(body).hexdigest())
        self._store.bucket.put(kept.key, body, kept.content_type, metadata_of(kept))
        return kept

    def _end(self, entry: ReadRecord, after: Record, step: Callable[[Progress], Progress]) -> None:
        """End a run, unless it was ended meanwhile: then discard its answer."""
        changed = end(after, step(entry.record.progress))
        if self._store.write(entry, changed) is None:
            raise NotNowError("another worker has taken the request over")
        state = changed.progress.state
        if state is RequestState.QUEUED:
            self._store.send(changed, changed.progress.not_before - self._store.clock())
        elif state is RequestState.FAILED and not 400 <= changed.answer.status < 500:
            self._store.queues.bury(RequestMessage(changed.stage, changed.id))
        self._store.call_back(changed)

    def _call_back(self, record: Record, attempt: int) -> None:
        """Send a webhook once, or schedule another attempt."""
        if record.callback_state != "waiting":
            return
        store = self._store
        described = replace(record, callback_state="").describe(api_answer_path(f"/{record.stage}", record.id))
        body = json.dumps(described, separators=(",", ":")).encode()
        try:
            self._deliver(
                record.callback, body, store.load_secret(), store.clock(), may_be_private=record.callback_private
            )
            state = "delivered"
        except CallbackError as error:
            _LOG.warning("the webhook of request %s, try %d: %s", record.id, attempt, error)
            if attempt < MOST_TRIES:
                message = RequestMessage(record.stage, record.id, attempt + 1)
                store.queues.send(message, group=record.function, delay_s=FIRST_BACK_OFF_S * 2 ** (attempt - 1))
                return
            state = "failed"

        def step(current: Record) -> Record:
            is_same = current.progress.ended == record.progress.ended
            return replace(current, callback_state=state) if is_same else current

        store.change(record.stage, record.id, step)


def _answered(record: Record, answer: AnswerObject) -> Record:
    version = _find(answer.headers, VERSION_HEADER) or record.version
    return replace(record, answer=answer, version=version, failure={})


def _failed(record: Record, status: int, failure: Mapping[str, Any]) -> Record:
    return replace(record, answer=AnswerObject(status=status), failure=failure)


def _find(headers: Mapping[str, str], wanted: str) -> str:
    return next((value for name, value in headers.items() if name.lower() == wanted), "")


def _body_of(answer: Mapping[str, Any]) -> bytes:
    body = answer.get("body") or ""
    return base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode(errors="surrogatepass")
