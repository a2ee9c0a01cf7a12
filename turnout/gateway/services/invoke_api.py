"""Lambda's Invoke API for the functions served here.

Source: Lambda's API reference, `Invoke`; the errors' texts as Lambda's clients quote them.

Every function has the aliases `live` and `next` and one published version, `1`; without a qualifier `live` runs. The
function's printed output is not returned (`LogType` is ignored), and an asynchronous call is made once, not three
times.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Container
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from turnout.gateway.functions.background import TIMEOUT_S, Background
from turnout.gateway.functions.invocation import ALIASES, Invocable, Invocation
from turnout.gateway.services.aws_wire import AwsError, answer, parse_object
from turnout.http_server.messages import Request, Response
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES, LARGEST_EVENT_BYTES
from turnout.protocol.naming import INVOKE_SEGMENT, LIVE

KINDS = ("RequestResponse", "Event", "DryRun")
LATEST = "$LATEST"
PUBLISHED = "1"

_PATH = re.compile(rf"/{INVOKE_SEGMENT}/functions/([^/]+)/invocations")
_NAME = re.compile(
    r"(?:arn:[a-z-]+:lambda:[a-z0-9-]*:)?(?:[0-9]{12}:)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>[A-Za-z0-9$_-]{1,128}))?"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The called function: its name and qualifier in the request; the qualifier may be empty."""

    name: str
    qualifier: str

    @property
    def alias(self) -> str:
        """The alias to call; the only version is the one behind `live`."""
        return LIVE if self.qualifier in {"", LATEST, PUBLISHED} else self.qualifier

    @property
    def executed_version(self) -> str:
        """The number of the version that runs."""
        return LATEST if self.qualifier in {"", LATEST} else PUBLISHED

    @property
    def arn(self) -> str:
        """The function's name in errors."""
        qualifier = f":{self.qualifier}" if self.qualifier else ""
        return f"arn:aws:lambda:local:000000000000:function:{self.name}{qualifier}"


class InvokeApi:
    """Answers `Invoke`.

    Args:
        functions: the called functions.
        names: names of all existing functions.
    """

    def __init__(self, functions: Invocable, names: Container[str]) -> None:
        self._functions = functions
        self._names = names
        self._background = Background(functions)

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request."""
        try:
            return self._invoke(request)
        except AwsError as error:
            return error.response()

    def _invoke(self, request: Request) -> Response | Awaitable[Response]:
        match = _PATH.fullmatch(request.path)
        if match is None or request.method != "POST":
            raise AwsError(404, "UnknownOperationException", "This server supports only Invoke of Lambda's API")
        wanted = parse_wanted(unquote(match[1]), parse_qs(request.query).get("Qualifier", [""])[0])
        if wanted.name not in self._names or wanted.alias not in ALIASES:
            raise _unknown(wanted)
        kind = next((value for name, value in request.headers if name.lower() == "x-amz-invocation-type"), KINDS[0])
        if kind not in KINDS:
            raise _invalid(
                f"1 validation error detected: Value '{kind}' at 'invocationType' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(KINDS)}]"
            )
        if kind == "DryRun":
            return answer(204)
        if kind == "Event":
            return self._submit(wanted, parse_payload(request.body, LARGEST_ASYNC_EVENT_BYTES))
        return self._call(wanted, parse_payload(request.body, LARGEST_EVENT_BYTES))

    def _submit(self, wanted: Wanted, event: dict[str, Any]) -> Response:
        if not self._background.submit(wanted.name, wanted.alias, event):
            raise _throttled("CallerRateLimitExceeded")
        return answer(202)

    async def _call(self, wanted: Wanted, event: dict[str, Any]) -> Response:
        outcome = self._functions.invoke(wanted.name, wanted.alias, event, TIMEOUT_S)
        invocation = outcome if isinstance(outcome, Invocation) else await outcome
        executed = ("X-Amz-Executed-Version", wanted.executed_version)
        match invocation.error:
            case None:
                return answer(200, invocation.answer, executed)
            case "unknown_function":
                return _unknown(wanted).response()
            case "throttled":
                return _throttled("ReservedFunctionConcurrentInvocationLimitExceeded").response()
            case _:
                return answer(200, describe_failure(invocation), executed, ("X-Amz-Function-Error", "Unhandled"))


def parse_wanted(text: str, qualifier: str) -> Wanted:
    """Parse a function's name, `name:alias`, its ARN or a part of it, and a separate qualifier.

    Raises:
        AwsError: it is none of these, or the two contradict each other.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise _invalid(
            f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: "
            "Member must be a function's name, name:qualifier, or its ARN"
        )
    named = match["qualifier"] or ""
    if named and qualifier and named != qualifier:
        raise _invalid("The derived qualifier from the function name does not match the specified qualifier.")
    return Wanted(match["name"], qualifier or named)


def parse_payload(body: bytes, limit_bytes: int) -> dict[str, Any]:
    """Return the event.

    Raises:
        AwsError: it is too large, or not an object, which no function here accepts.
    """
    if len(body) > limit_bytes:
        message = f"Request must be smaller than {limit_bytes} bytes for the InvokeFunction operation"
        raise AwsError(413, "RequestTooLargeException", message, Type="User")
    try:
        return parse_object(body)
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise AwsError(400, "InvalidRequestContentException", message, Type="User") from None


def describe_failure(invocation: Invocation) -> dict[str, str]:
    """Return Lambda's JSON for a call without an answer."""
    match invocation.error:
        case "timed_out":
            return {"errorType": "Sandbox.Timedout", "errorMessage": f"Error: Task timed out: {invocation.message}"}
        case "too_large":
            return {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": invocation.message}
        case _:
            return {"errorType": "Runtime.FunctionFailed", "errorMessage": invocation.message}


def _unknown(wanted: Wanted) -> AwsError:
    return AwsError(404, "ResourceNotFoundException", f"Function not found: {wanted.arn}", Type="User")


def _throttled(reason: str) -> AwsError:
    return AwsError(429, "TooManyRequestsException", "Rate Exceeded.", Type="User", Reason=reason)


def _invalid(message: str) -> AwsError:
    return AwsError(400, "InvalidParameterValueException", message, Type="User")
