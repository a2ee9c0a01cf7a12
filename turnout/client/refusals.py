"""Explains API Gateway's own errors and their remedies, which its messages leave out."""

from __future__ import annotations

from collections.abc import Mapping

ERROR_TYPE = "x-amzn-errortype"

UNKNOWN_PATH = "MissingAuthenticationTokenException"
"""API Gateway's error for a path that it does not have, and for a request without an AWS signature."""

HINTS: Mapping[str, str] = {
    UNKNOWN_PATH: "API Gateway returns this for an unknown path (check the names) and for a stage that needs an AWS "
    "signature.",
    "ForbiddenException": "The stage requires an API key: pass --api-key, or --stage to use the key in .turnout.",
}

OLDER_SERVER = (
    "models.yaml has it, so the server runs an older models.yaml: restart `turnout serve`, start it "
    "with --watch, or run `pulumi up`. API Gateway also returns this for stages that require an AWS "
    "signature."
)


def find_hint(headers: Mapping[str, str], *, is_listed: bool) -> str:
    """Return the remedy for an error of API Gateway; empty for any other answer.

    Args:
        headers: headers of the answer, with names in lower case.
        is_listed: whether models.yaml contains the requested version.
    """
    kind = headers.get(ERROR_TYPE, "")
    return OLDER_SERVER if kind == UNKNOWN_PATH and is_listed else HINTS.get(kind, "")
