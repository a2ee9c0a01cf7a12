"""Lambda's Invoke API: calls another function through an alias.

Uses http.client, because importing boto3 and making its client takes longer than everything else that a router does
when it starts (docs/performance.md). Source: AWS Lambda API, Invoke.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from turnout.protocol.aws.credentials import CredentialsError, CredentialSource
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES, LARGEST_EVENT_BYTES
from turnout.protocol.aws.regions import dns_suffix
from turnout.protocol.aws.signing import sign_request
from turnout.protocol.routing.invocation import Answered

from .connections import Connections, HttpAnswer

_ERROR_OF_STATUS: Mapping[int, str] = {
    403: "unknown_function",  # the role may not call it: API Gateway returns the same error in both cases
    404: "unknown_function",
    413: "request_too_large",
    429: "throttled",
}
"""Lambda's own statuses and their errors; 5xx statuses are failures of Lambda."""

_ERROR_OF_TYPE: Mapping[str, str] = {"Sandbox.Timedout": "timed_out", "Function.ResponseSizeTooLarge": "too_large"}


class LambdaInvoke:
    """Calls functions of one region; may be called from several threads at once.

    Args:
        endpoint: the Invoke API's URL, `https://lambda.eu-west-1.amazonaws.com`.
        region: the region in the signature.
        environ: holds the credentials or their address, and the trace of the call that is being answered.
        wall_clock: seconds since 1970, for the signature.
        clock: monotonic clock in seconds, also used for deadlines.
    """

    def __init__(
        self,
        endpoint: str,
        region: str,
        *,
        environ: Mapping[str, str] = os.environ,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = Connections(endpoint, clock=clock)
        self._region = region
        self._environ = environ
        self._credentials = CredentialSource(environ, wall_clock=wall_clock)
        self._wall_clock = wall_clock

    async def __call__(
        self, function: str, alias: str, event: Mapping[str, Any], *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        """See `turnout.protocol.routing.invocation.Invoke`. It never suspends: it blocks its thread."""
        body = _spell(event)
        limit = LARGEST_ASYNC_EVENT_BYTES if asynchronous else LARGEST_EVENT_BYTES
        if len(body) > limit:
            return Answered(None, "request_too_large", f"the event is {len(body)} bytes, {limit} are allowed")
        path = f"/2015-03-31/functions/{quote(f'{function}:{alias}', safe='')}/invocations"
        try:
            headers = self._headers(path, body, "Event" if asynchronous else "RequestResponse")
            answer = self._connections.post(path, headers, body, deadline_s)
        except TimeoutError:
            return Answered(None, "timed_out", "Lambda timed out")
        except CredentialsError as error:
            return Answered(None, "failed", str(error))
        except (OSError, HTTPException) as error:
            return Answered(None, "failed", f"Lambda cannot be reached: {type(error).__name__}: {error}")
        return _read(answer)

    def _headers(self, path: str, body: bytes, kind: str) -> dict[str, str]:
        headers = {"content-type": "application/json", "host": self._connections.host, "x-amz-invocation-type": kind}
        headers = sign_request(
            self._credentials.current(),
            "POST",
            region=self._region,
            service="lambda",
            path=path,
            headers=headers,
            body=body,
            now=self._wall_clock(),
        )
        trace = self._environ.get("_X_AMZN_TRACE_ID")
        if trace:
            headers["x-amzn-trace-id"] = trace  # X-Ray's header, which proxies may change, so it is not signed
        return headers

    def close(self) -> None:
        """Close the kept connections."""
        self._connections.close()


def _spell(event: Mapping[str, Any]) -> bytes:
    """Return compact JSON; text with lone surrogates, which UTF-8 cannot encode, is escaped."""
    try:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(event, separators=(",", ":")).encode()


def _read(answer: HttpAnswer) -> Answered:
    """Read Lambda's response; it is the function's own only if Lambda reports no error."""
    if answer.status == 202:
        return Answered(None)
    if answer.status != 200:
        kind = answer.headers.get("x-amzn-errortype", "")
        message = f"Lambda answered {answer.status} {kind}: {answer.body[:500].decode(errors='replace')}"
        return Answered(None, _ERROR_OF_STATUS.get(answer.status, "failed"), message)
    try:
        body = json.loads(answer.body)
    except ValueError:
        return Answered(None, "failed", "the function's answer is not JSON")
    if answer.headers.get("x-amz-function-error") is None:
        return Answered(body)
    kind = str(body.get("errorType", "")) if isinstance(body, dict) else ""
    message = str(body.get("errorMessage", "")) if isinstance(body, dict) else str(body)
    error = _ERROR_OF_TYPE.get(kind, "timed_out" if "Task timed out after" in message else "failed")
    return Answered(None, error, f"{kind}: {message}"[:500])


def find_endpoint(region: str) -> str:
    """Return Lambda's endpoint of a region."""
    return f"https://lambda.{region}.{dns_suffix(region)}"
