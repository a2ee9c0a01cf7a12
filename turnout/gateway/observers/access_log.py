"""One line per request: text for people, JSON under API Gateway's `$context` names for machines.

Comes in: an exchange and its response. Goes out: a line, without its end. Called by the gateway's core after each
request; whoever starts the gateway says where lines go.

What the client chose (method, path, user agent) cannot forge a line: everything but printable ASCII is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from turnout.gateway.api.exchange import Exchange, Log
from turnout.gateway.api.identifiers import RequestTimes
from turnout.gateway.http.messages import Response

_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")


def escape(text: str) -> str:
    r"""The text with everything but printable ASCII as `\xNN` or `\uNNNN`, spaces and backslashes too."""
    if text.isascii() and text.isprintable() and " " not in text and "\\" not in text:
        return text
    return _UNSAFE.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text
    )


def text_line(exchange: Exchange, response: Response, duration_s: float) -> str:
    """`127.0.0.1 POST /dev/models/iris/v1/inference 200 1.2ms 345B function=... canary=false id=...`."""
    request, share, target = exchange.request, exchange.share, exchange.target
    function = "-"
    if target is not None and target.function:
        function = f"{target.function}:{target.alias}" if target.alias else target.function
    error = f" error={exchange.error.kind}" if exchange.error is not None else ""
    return (
        f"{escape(request.client)} {escape(request.method)} {escape(request.path)} {response.status} "
        f"{duration_s * 1000:.1f}ms {len(response.body)}B function={function} "
        f"canary={'true' if share is not None and share.is_canary else 'false'} id={exchange.request_id}{error}"
    )


def json_line(
    exchange: Exchange, response: Response, duration_s: float, *, account_id: str, times: RequestTimes
) -> str:
    """The same as one JSON object; escaping is JSON's, and only ASCII goes out."""
    share, target = exchange.share, exchange.target
    row: dict[str, Any] = {
        **exchange.context(account_id, times),
        "path": exchange.request.path,
        "status": response.status,
        "responseLength": len(response.body),
        "responseLatency": round(duration_s * 1000, 3),
        "isCanaryRequest": share is not None and share.is_canary,
        "identity.apiKeyId": exchange.key.id if exchange.key is not None else "",
        "function": target.function if target is not None else "",
        "alias": target.alias if target is not None else "",
    }
    if exchange.error is not None:
        row |= {"error.message": exchange.error.message, "error.responseType": exchange.error.kind}
    return json.dumps(row, separators=(",", ":")).replace("\x7f", "\\u007f")


def text_log(write: Callable[[str], object]) -> Log:
    """A log that writes text lines."""

    def log(exchange: Exchange, response: Response, duration_s: float) -> None:
        write(text_line(exchange, response, duration_s))

    return log


def json_log(write: Callable[[str], object], account_id: str) -> Log:
    """A log that writes JSON lines."""
    times = RequestTimes()

    def log(exchange: Exchange, response: Response, duration_s: float) -> None:
        write(json_line(exchange, response, duration_s, account_id=account_id, times=times))

    return log
