"""The one shape of an error, `{"error": sentence, "code": CODE, "details": {...}}`, and the statuses of its codes.

Comes in: what a codec, a check or a session found. Goes out: a status and a body. Called by every Lambda.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATUS_OF: Mapping[str, int] = {
    "INVALID_JSON": 400,  # not JSON, not UTF-8, nested too deeply
    "INVALID_REQUEST": 400,  # JSON, but not one of the request forms
    "UNKNOWN_INPUT": 400,
    "MISSING_INPUT": 400,
    "DUPLICATE_INPUT": 400,
    "UNKNOWN_OUTPUT": 400,
    "DATATYPE_MISMATCH": 400,
    "SHAPE_MISMATCH": 400,
    "VALUE_OUT_OF_RANGE": 400,  # 300 as UINT8, 1e39 as FP32
    "INVALID_VALUE": 400,  # 1.5 as INT32, 7 as BYTES
    "INVALID_BINARY": 400,  # lengths that lie
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "UNSUPPORTED_ENCODING": 415,
    "PAYLOAD_TOO_LARGE": 413,
    "REFUSED_BY_MODEL": 422,  # fits the signature, but onnxruntime refuses the values
    "TRANSFORM_FAILED": 500,
    "MODEL_FAILED": 500,
}
"""HTTP status of every code."""


class RequestError(Exception):
    """A request that cannot be answered; `code` is a key of `STATUS_OF`, the message a whole sentence."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    @property
    def status(self) -> int:
        """HTTP status."""
        return STATUS_OF[self.code]

    def body(self) -> dict[str, Any]:
        """The JSON object that the caller gets."""
        return {"error": self.message, "code": self.code, "details": self.details}
