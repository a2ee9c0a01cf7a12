"""One line per request: text for users; JSON for machines, with the keys of the access logs on AWS.

What the client chose (method, path, user agent) cannot forge a line: everything except printable ASCII is escaped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from turnout.gateway.api.exchange import Exchange, Observer
from turnout.gateway.api.identifiers import RequestTimes
from turnout.http_server.messages import Response
from turnout.protocol.aws.access_log import ACCESS_LOG_FIELDS
from turnout.protocol.naming import VERSION_HEADER

_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")


def escape(text: str) -> str:
    r"""Return the text with everything but printable ASCII as `\xNN` or `\uNNNN`, also spaces and backslashes."""
    if text.isascii() and text.isprintable() and " " not in text and "\\" not in text:
        return text
    return _UNSAFE.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", text
    )


def iso_time(now: float) -> str:
    """Return `2026-11-30T05:00:00Z`."""
    return _iso_second(int(now))


@lru_cache(maxsize=2)
def _iso_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def text_line(exchange: Exchange, response: Response, duration_s: float) -> str:
    """Return `2026-11-30T05:00:00Z 127.0.0.1 POST /dev/models/iris/v1/inference 200 1.2ms 345B function=...

    canary=...`.
    """
    request, share, target = exchange.request, exchange.share, exchange.target
    function = "-"
    if target is not None and target.function:
        function = f"{target.function}:{target.alias}" if target.alias else target.function
    error = f" error={exchange.error.kind}" if exchange.error is not None else ""
    caller = f" caller={exchange.caller}" if exchange.caller else ""
    return (
        f"{iso_time(exchange.now)} {escape(request.client)} {escape(request.method)} {escape(request.path)} "
        f"{response.status} {duration_s * 1000:.1f}ms {len(response.body)}B function={function} "
        f"canary={'true' if share is not None and share.is_canary else 'false'} id={exchange.request_id}{caller}{error}"
    )


def json_line(exchange: Exchange, response: Response, duration_s: float, *, times: RequestTimes) -> str:
    """Return the same as one JSON object in ASCII, with JSON's escaping."""
    share, target, stage = exchange.share, exchange.target, exchange.stage
    version = next((value for name, value in response.headers if name.lower() == VERSION_HEADER), "")
    return make_json_line(
        time=times.at(exchange.now),
        id=exchange.extended_request_id,
        request_id=exchange.request_id,
        ip=exchange.request.client,
        api_key_id=exchange.key.id if exchange.key is not None else "-",
        caller=exchange.caller or "-",
        stage=stage.settings.name if stage else "-",
        method=exchange.request.method,
        resource=exchange.routed.operation.resource if exchange.routed else "-",
        status=response.status,
        bytes=len(response.body),
        latency_ms=round(duration_s * 1000, 3),
        error=exchange.error.kind if exchange.error is not None else "-",
        canary=share is not None and share.is_canary,
        deployment=share.deployment_id if share else "-",
        function=target.function if target is not None and target.function else "-",
        version=version or "-",
    )


def make_json_line(**values: Any) -> str:
    """Return a line with every key of `ACCESS_LOG_FIELDS`; a missing value is `-`, as in API Gateway."""
    fields = {key: values.get(key, "-") for key in ACCESS_LOG_FIELDS}
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")


def text_log(write: Callable[[str], object]) -> Observer:
    """Return an observer that writes a text line for each request."""

    def log(exchange: Exchange, response: Response, duration_s: float) -> None:
        write(text_line(exchange, response, duration_s))

    return log


def json_log(write: Callable[[str], object]) -> Observer:
    """Return an observer that writes a JSON line for each request."""
    times = RequestTimes()

    def log(exchange: Exchange, response: Response, duration_s: float) -> None:
        write(json_line(exchange, response, duration_s, times=times))

    return log
