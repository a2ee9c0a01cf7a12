"""The Runtime API as one environment sees it: asks for its next event, posts the answer, or what went wrong.

Comes in: HTTP requests of one environment's process, and calls to hand to it. Goes out: responses, and to whoever owns
the environment what became of its calls. Knows no sockets and no processes. Used by `environment`.
Source: Lambda's Runtime API, version 2018-06-01, and what awslambdaric 4.2 asks of it.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from turnout.gateway.functions import LARGEST_ANSWER_BYTES, Invocation
from turnout.gateway.messages import Request, Response

_VERSION = "/2018-06-01/runtime"
NEXT = f"{_VERSION}/invocation/next"
INIT_ERROR = f"{_VERSION}/init/error"
_INVOCATION = f"{_VERSION}/invocation/"

_JSON = ("Content-Type", "application/json")
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_REASON_CHARACTERS = 500


def _json_response(status: int, body: Mapping[str, str]) -> Response:
    return Response(status, (_JSON,), orjson.dumps(body))


ACCEPTED = _json_response(202, {"status": "OK"})
UNKNOWN_REQUEST_ID = _json_response(400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"})
UNKNOWN_PATH = Response(404, (("Content-Type", "text/plain"),), b"404 page not found\n")
WRONG_STATE = _json_response(
    403, {"errorMessage": "State transition is not allowed", "errorType": "InvalidStateTransition"}
)


class Call:
    """One call of a function, from its coming until it is settled.

    Args:
        arn: of the function with the alias that was called.
        event: the proxy event.
        deadline: when it times out, on the event loop's clock.
        remaining_s: until then.
    """

    __slots__ = ("_arn", "_deadline_ms", "_event", "_id", "_trace", "deadline", "delivered", "future", "path", "timer")

    def __init__(self, arn: str, event: Mapping[str, Any], deadline: float, remaining_s: float) -> None:
        self._arn = arn
        self._event = orjson.dumps(event)
        self._id = request_id_of(event)
        self._trace = trace_of(event)
        self._deadline_ms = str(int((time.time() + remaining_s) * 1000))
        self.path = f"{_INVOCATION}{self._id}/"
        self.deadline = deadline
        self.delivered = False
        self.timer: asyncio.TimerHandle | None = None
        self.future: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()

    def render(self) -> Response:
        """The event with what Lambda says about it."""
        return Response(
            200,
            (
                _JSON,
                ("Lambda-Runtime-Aws-Request-Id", self._id),
                # Without it get_remaining_time_in_millis() would say 0.
                ("Lambda-Runtime-Deadline-Ms", self._deadline_ms),
                ("Lambda-Runtime-Invoked-Function-Arn", self._arn),
                ("Lambda-Runtime-Trace-Id", self._trace),
            ),
            self._event,
        )


def request_id_of(event: Mapping[str, Any]) -> str:
    """The gateway's id of the request, so that log lines meet; a new one where there is none that fits a path."""
    context = event.get("requestContext")
    known = context.get("requestId") if isinstance(context, Mapping) else None
    if isinstance(known, str) and _REQUEST_ID.fullmatch(known) is not None:
        return known
    return str(uuid.uuid4())


def trace_of(event: Mapping[str, Any]) -> str:
    """`X-Amzn-Trace-Id` as the gateway set it, or the client did; empty where it could not be a header."""
    headers = event.get("headers")
    known = headers.get("X-Amzn-Trace-Id") if isinstance(headers, Mapping) else None
    if isinstance(known, str) and known.isascii() and known.isprintable() and len(known) <= 1024:
        return known
    return ""


class Owner(Protocol):
    """Who gives calls to an environment and hears what becomes of them; each is told with the environment's API."""

    def ready(self, api: RuntimeApi) -> None:
        """It asks for an event and has none: `assign` will deliver at once."""
        ...

    def answered(self, api: RuntimeApi, call: Call, invocation: Invocation) -> None:
        """Its call is over; the next may be assigned, and is delivered when the process asks."""
        ...

    def broken(self, api: RuntimeApi, reason: str) -> None:
        """It will never ask for an event, or must not: end it."""
        ...


class RuntimeApi:
    """One environment's Runtime API.

    Args:
        owner: told of everything that happens.

    Attributes:
        call: what was assigned and is not over.
        started: whether the process asked for an event yet, which ends its init.
    """

    __slots__ = ("_owner", "_waiting", "call", "started")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._waiting: asyncio.Future[Response] | None = None
        self.call: Call | None = None
        self.started = False

    def assign(self, call: Call) -> None:
        """Give the environment its next call, which it gets at once if it waits, else when it asks."""
        self.call = call
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            call.delivered = True
            waiting.set_result(call.render())

    def handle(self, request: Request) -> Response | asyncio.Future[Response]:
        """Answer one request of the process; whatever it says, only its own call is touched."""
        path = request.path
        if path == NEXT:
            return self._next()
        if request.method != "POST":
            return UNKNOWN_PATH
        if path.startswith(_INVOCATION):
            call = self.call
            if call is None or not call.delivered or not path.startswith(call.path):
                return UNKNOWN_REQUEST_ID
            verb = path[len(call.path) :]
            if verb == "response":
                return self._end_call(call, read_answer(request.body))
            if verb == "error":
                return self._end_call(call, Invocation(None, "failed", read_error(request.body)))
            return UNKNOWN_PATH
        if path == INIT_ERROR:
            return self._fail_init(request.body)
        return UNKNOWN_PATH

    def refused(self, request: Request, response: Response, seconds: float) -> None:  # noqa: ARG002
        """Hear of an answer that was given; a 413 to a response ends its call, for the process will not recover."""
        call = self.call
        if response.status == 413 and call is not None and call.delivered and request.path == f"{call.path}response":
            message = f"the answer is more than {LARGEST_ANSWER_BYTES:,} bytes of JSON"
            self._end_call(call, Invocation(None, "too_large", message))
            self._owner.broken(self, "its answer was too large")

    def _next(self) -> Response | asyncio.Future[Response]:
        call = self.call
        if self._waiting is not None or (call is not None and call.delivered):
            return WRONG_STATE
        self.started = True
        if call is not None:
            call.delivered = True
            return call.render()
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        self._owner.ready(self)
        return waiting

    def _end_call(self, call: Call, invocation: Invocation) -> Response:
        self.call = None
        self._owner.answered(self, call, invocation)
        return ACCEPTED

    def _fail_init(self, body: bytes) -> Response:
        if self.started:
            return WRONG_STATE
        self._owner.broken(self, read_error(body))
        return ACCEPTED


def read_answer(body: bytes) -> Invocation:
    """What a function returned, or why it cannot be handed on."""
    if len(body) > LARGEST_ANSWER_BYTES:
        return Invocation(None, "too_large", f"the answer is more than {LARGEST_ANSWER_BYTES:,} bytes of JSON")
    try:
        return Invocation(orjson.loads(body))
    except ValueError as error:
        # NaN too: Lambda's encoder writes it, and it is not JSON.
        return Invocation(None, "failed", f"the answer is not JSON: {error}")


def read_error(body: bytes) -> str:
    """`ValueError: no such thing`, out of what the process reported."""
    try:
        found = orjson.loads(body)
        text = f"{found['errorType']}: {found['errorMessage']}"
    except (ValueError, TypeError, LookupError):
        text = f"an error that cannot be read: {body[:200]!r}"
    return text[:_REASON_CHARACTERS]
