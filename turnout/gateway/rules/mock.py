"""Mock integrations: responses without a function, used for preflights.

Supported are one default response with constant headers, and a template that Turnout writes: API Gateway runs no
Velocity here. Everything else is rejected when the document is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.protocol.aws.cors import read_origin_template

_HEADER = "method.response.header."
_CONSTANT = re.compile(r"'([\t\x20-\x7e]*)'")
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Mock:
    """One mock response.

    Args:
        status: status of the response.
        headers: headers for every request.
        origins: origins that are returned as `Access-Control-Allow-Origin`.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    origins: frozenset[str] = frozenset()

    def answer(self, origin: str) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Return status and headers of the response to a request of this origin; empty if it has none."""
        own = (("Access-Control-Allow-Origin", origin),) if origin in self.origins else ()
        return self.status, (("Content-Type", _JSON), *self.headers, *own)


def parse_mock(integration: Mapping[str, Any]) -> Mock:
    """Read a mock integration.

    Raises:
        ValueError: it is not supported here.
    """
    responses = integration.get("responses") or {}
    if set(responses) != {"default"}:
        raise ValueError("a mock must have one response, `default`")
    response = responses["default"]
    status = _read_status(response.get("statusCode"))
    if _requested_status(integration) != status:
        raise ValueError(f"a mock's request template must ask for the status of its response, {status}")
    template = (response.get("responseTemplates") or {}).get(_JSON) or ""
    origins = read_origin_template(template) if template else ()
    if origins is None:
        raise ValueError("a mock's response template is not supported here: only the one that answers preflights")
    return Mock(status, tuple(_read_headers(response.get("responseParameters") or {})), frozenset(origins))


def _read_status(value: object) -> int:
    text = str(value)
    if re.fullmatch(r"[2-5]\d\d", text) is None:
        raise ValueError(f"a mock's statusCode must be 200-599, got {value!r}")
    return int(text)


def _requested_status(integration: Mapping[str, Any]) -> object:
    template = (integration.get("requestTemplates") or {}).get(_JSON, "")
    try:
        return orjson.loads(template)["statusCode"]
    except (ValueError, KeyError, TypeError):
        return None


def _read_headers(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers = []
    for name, value in parameters.items():
        constant = _CONSTANT.fullmatch(value) if isinstance(value, str) else None
        if not name.startswith(_HEADER) or constant is None:
            raise ValueError(f"a mock's {name} must be a header with a constant in single quotes, got {value!r}")
        headers.append((name.removeprefix(_HEADER), constant[1]))
    return headers
