"""Refusals of asynchronous requests: their codes and statuses."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.protocol.errors import RequestError

STATUS_OF: Mapping[str, int] = {
    "INVALID_IDENTIFIER": 400,
    "INVALID_UPLOAD": 400,  # the description of an upload, or a part of it
    "INVALID_CALLBACK": 400,  # an invalid address, or a host that the stage does not list
    "INVALID_TARGET": 400,  # PUT /requests/{id} without a model, or with an unknown one
    "EXPIRED_ADDRESS": 403,  # a signed address that has expired or has no valid signature
    "UNKNOWN_REQUEST": 404,
    "UNKNOWN_UPLOAD": 404,
    "ASYNC_NOT_ENABLED": 404,  # the stage has no `async`
    "IDENTIFIER_TAKEN": 409,  # used by another request
    "HAS_BEGUN": 409,  # too late to cancel
    "NOT_DONE": 409,  # there is no answer yet, or none at all
    "UPLOAD_INCOMPLETE": 409,
    "BODY_TOO_LARGE": 413,
    "RANGE_NOT_SATISFIABLE": 416,
    "DIGEST_MISMATCH": 422,
    "QUEUE_FULL": 503,  # too many requests are waiting
    "STORAGE_FULL": 507,  # too many bodies and answers are stored
}
"""HTTP status of each code."""


def describe_unknown_target(model: str, version: str) -> str:
    """Return the message about an inference that does not exist; `version` is empty if none is named."""
    return f"there is no version {version[:50]} of {model[:50]}" if version else f"there is no model {model[:50]}"


class Refusal(RequestError):  # noqa: N818 - an answer, not a failure of ours
    """A refused asynchronous request; its codes are those of this module."""

    statuses = STATUS_OF
