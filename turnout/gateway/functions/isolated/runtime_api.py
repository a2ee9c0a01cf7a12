"""The Runtime API as one environment uses it: asks for its next event, posts the answer or an error.

It uses no sockets and no processes. Source: Lambda's Runtime API, version 2018-06-01, and the requests of awslambdaric
4.2.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

import orjson

from turnout.gateway.functions.invocation import LARGEST_ANSWER_BYTES, Invocation
from turnout.protocol.requests.runs import is_asynchronous

_VERSION = b"/2018-06-01/runtime"
NEXT = _VERSION + b"/invocation/next"
INIT_ERROR = _VERSION + b"/init/error"
_INVOCATION = _VERSION + b"/invocation/"

_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_REASON_CHARACTERS = 500

# Without the deadline get_remaining_time_in_millis() would return 0; an event without this content type would arrive as
# raw bytes.
_EVENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %b\r\n"
    b"Lambda-Runtime-Deadline-Ms: %d\r\nLambda-Runtime-Invoked-Function-Arn: %b\r\n"
    b"Lambda-Runtime-Trace-Id: %b\r\nContent-Length: %d\r\n\r\n%b"
)


def render(status: int, body: Mapping[str, str], *, close: bool = False) -> bytes:
    """Return a response with a JSON body."""
    text = orjson.dumps(body)
    end = "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{end}"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


def _render_error(status: int, error_type: str, message: str) -> bytes:
    return render(status, {"errorMessage": message, "errorType": error_type})


ACCEPTED = render(202, {"status": "OK"})
UNKNOWN_PATH = _render_error(404, "InvalidPath", "There is no such path")
UNKNOWN_REQUEST_ID = _render_error(400, "InvalidRequestID", "Invalid request ID")
WRONG_STATE = _render_error(403, "InvalidStateTransition", "State transition is not allowed")


class RuntimeCall:
    """One call of a function, from its arrival until it is settled.

    Args:
        arn: ARN of the function with the called alias.
        event: the proxy event.
        deadline: when it times out, on the event loop's clock.
        remaining_s: time until then.

    Attributes:
        path: path to which the process posts the outcome, up to the last slash.
        delivered: whether a process has received it.
        is_asynchronous: whether it is the run of an asynchronous request.
        kept_until: see `waiting_time.Waiting`.
        timer: ends it at the deadline; None once it is settled.
        future: the caller's result.
    """

    __slots__ = (
        "_arn",
        "_ends",
        "_event",
        "_id",
        "_trace",
        "deadline",
        "delivered",
        "future",
        "is_asynchronous",
        "kept_until",
        "path",
        "timer",
    )

    def __init__(self, arn: bytes, event: Mapping[str, Any], deadline: float, remaining_s: float) -> None:
        self._arn = arn
        self._event = orjson.dumps(event)
        self._id = request_id_of(event)
        self._trace = trace_of(event)
        self._ends = time.time() + remaining_s
        self.path = b"%b%b/" % (_INVOCATION, self._id)
        self.deadline = deadline
        self.delivered = False
        self.is_asynchronous = is_asynchronous(event)
        self.kept_until = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.future: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()

    def limit(self, deadline: float, remaining_s: float) -> None:
        """Set an earlier deadline."""
        self.deadline = deadline
        self._ends = time.time() + remaining_s

    def deliver(self) -> bytes:
        """Return the event with Lambda's headers; the process has it afterwards."""
        self.delivered = True
        event = self._event  # kept: if the process dies before it has read the event, another process gets it
        return _EVENT % (self._id, self._ends * 1000, self._arn, self._trace, len(event), event)


def request_id_of(event: Mapping[str, Any]) -> bytes:
    """Return the gateway's id of the request, so that log lines can be matched; a new one if there is no valid one."""
    try:
        known = event["requestContext"]["requestId"]
        if _REQUEST_ID.fullmatch(known) is not None:
            return known.encode()  # type: ignore[no-any-return]
    except (LookupError, TypeError):
        pass
    return str(uuid.uuid4()).encode()


def trace_of(event: Mapping[str, Any]) -> bytes:
    """Return `X-Amzn-Trace-Id` as set by the gateway or the client; empty if it is not a valid header."""
    try:
        known = event["headers"]["X-Amzn-Trace-Id"]
        if known.isascii() and known.isprintable() and len(known) <= 1024:
            return known.encode()  # type: ignore[no-any-return]
    except (LookupError, TypeError, AttributeError):
        pass
    return b""


class Owner(Protocol):
    """Assigns calls to an environment and receives their outcomes, each with the environment's API."""

    def ready(self, api: RuntimeApi) -> None:
        """It asks for an event and has none: `assign` will deliver immediately."""
        ...

    def answered(self, api: RuntimeApi, call: RuntimeCall, invocation: Invocation) -> None:
        """Its call has ended; the next one may be assigned, and is delivered when the process asks."""
        ...

    def left(self, api: RuntimeApi) -> None:
        """It no longer waits for an event; most likely its process has just ended."""
        ...

    def broken(self, api: RuntimeApi, reason: str) -> None:
        """It will never ask for an event, or must not: it must be ended."""
        ...


class Waiter(Protocol):
    """A connection that waits for an event."""

    def send(self, data: bytes) -> None:
        """Answer it."""
        ...


class RuntimeApi:
    """One environment's Runtime API.

    Args:
        owner: called on every event.

    Attributes:
        call: the assigned call that has not ended.
        started: whether the process has asked for an event, which ends its init.
    """

    __slots__ = ("_holder", "_owner", "_waiter", "call", "started")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._waiter: Waiter | None = None
        self._holder: Waiter | None = None  # the connection on which the call was sent
        self.call: RuntimeCall | None = None
        self.started = False

    def assign(self, call: RuntimeCall) -> None:
        """Assign the next call to the environment, which gets it immediately if it waits, otherwise when it asks."""
        self.call = call
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self._holder = waiter
            waiter.send(call.deliver())

    def ask(self, waiter: Waiter) -> None:
        """The process asks for its next event."""
        call = self.call
        if self._waiter is not None or (call is not None and call.delivered):
            waiter.send(WRONG_STATE)
            return
        self.started = True
        if call is not None:
            self._holder = waiter
            waiter.send(call.deliver())
            return
        self._waiter = waiter
        self._owner.ready(self)

    def take_back(self, waiter: Waiter) -> None:
        """A connection broke before its process had read everything.

        The call may be assigned to another environment.
        """
        if self._holder is waiter and self.call is not None:
            self.call.delivered = False

    def leave(self, waiter: Waiter) -> None:
        """A connection is closed; if it waited for an event, it gets none."""
        if self._waiter is waiter:
            self._owner.left(self)

    def post(self, path: bytes, body: bytes) -> bytes:
        """Return the response to a post of the process, which can only affect its own call."""
        if path.startswith(_INVOCATION):
            call = self.call
            if call is None or not call.delivered or not path.startswith(call.path):
                return UNKNOWN_REQUEST_ID
            self._holder = None  # the process has read the event, even if it leaves a part unread
            verb = path[len(call.path) :]
            if verb == b"response":
                return self._end_call(call, read_answer(body))
            if verb == b"error":
                return self._fail_call(call, read_error(body))
        elif path == INIT_ERROR:
            if self.started:
                return WRONG_STATE
            self._owner.broken(self, read_error(body))
            return ACCEPTED
        return UNKNOWN_PATH

    def _fail_call(self, call: RuntimeCall, reason: str) -> bytes:
        """The function raised an exception; a process that ran out of memory would not have survived on Lambda."""
        if reason.partition(":")[0].endswith("MemoryError"):
            self._owner.broken(self, f"Runtime.OutOfMemory: {reason}; killed")
            return ACCEPTED
        return self._end_call(call, Invocation(None, "failed", reason))

    def refuse_body(self, path: bytes) -> None:
        """A post was rejected for its size.

        If it was an answer, its call has ended, and awslambdaric will not continue.
        """
        call = self.call
        if call is not None and call.delivered and path.startswith(call.path):
            self._end_call(call, TOO_LARGE)
            self._owner.broken(self, TOO_LARGE.message)

    def _end_call(self, call: RuntimeCall, invocation: Invocation) -> bytes:
        self.call = None
        self._owner.answered(self, call, invocation)
        return ACCEPTED


TOO_LARGE = Invocation(None, "too_large", f"the answer is more than {LARGEST_ANSWER_BYTES:,} bytes of JSON")


def read_answer(body: bytes) -> Invocation:
    """Return a function's answer, or the reason why it cannot be passed on."""
    try:
        return Invocation(orjson.loads(body))
    except ValueError as error:
        # NaN, too: Lambda's encoder writes it, but it is not JSON.
        return Invocation(None, "failed", f"the answer is not JSON: {error}")


def read_error(body: bytes) -> str:
    """Return `ValueError: no such thing` from what the process reported."""
    try:
        report = orjson.loads(body)
        text = f"{report['errorType']}: {report['errorMessage']}"
    except (ValueError, TypeError, LookupError):
        text = f"an error that cannot be read: {body[:200]!r}"
    return text[:_REASON_CHARACTERS]
