"""The format of errors, `{"error": sentence, "code": CODE, "details": {...}}`, and the statuses of their codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

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
    "INVALID_BINARY": 400,  # byte lengths that do not match the data
    "OUTPUT_NEEDS_BINARY": 400,  # JSON output was requested, and the output holds BYTES that are not UTF-8
    "OUTPUT_WITHOUT_ROWS": 400,  # `instances` was sent, and the output has no row per instance
    "VERSION_NOT_ALLOWED": 400,  # x-turnout-version in a stage without `version_override`, or to a graph
    "UNKNOWN_MODEL": 404,
    "UNKNOWN_VERSION": 404,
    "UNKNOWN_PATH": 404,
    "METHOD_NOT_ALLOWED": 405,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "UNSUPPORTED_ENCODING": 415,
    "PAYLOAD_TOO_LARGE": 413,
    "ANSWER_TOO_LARGE": 413,  # larger than Lambda allows
    "REFUSED_BY_MODEL": 422,  # the request matches the signature, but onnxruntime rejects the values
    "REFUSED_BY_TRANSFORM": 422,  # the version's transform raised `Refused`
    "TRANSFORM_FAILED": 500,
    "MODEL_FAILED": 500,
    "NOT_READY": 503,
    "CHOICES_UNREADABLE": 503,  # the table with the versions that the stage serves cannot be read
    "STEP_FAILED": 502,  # a graph's step returned no answer, or one that the next step cannot use
    "STEP_THROTTLED": 429,
    "STEP_TIMED_OUT": 504,
    "LOOP": 508,  # routers that call routers
}
"""HTTP status of each code."""


class RequestError(Exception):
    """A request that cannot be answered; `code` is a key of `statuses`, the message a complete sentence.

    `status` is the code's HTTP status.
    """

    statuses: ClassVar[Mapping[str, int]] = STATUS_OF

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = self.statuses[code]

    def body(self) -> dict[str, Any]:
        """Return the JSON object for the caller."""
        return {"error": self.message, "code": self.code, "details": self.details}


class Refused(RequestError):  # noqa: N818 - reads as `raise Refused(...)` in a user's transform
    """Raised by a transform to reject a request: a 422 with its sentence, without a traceback in the log."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__("REFUSED_BY_TRANSFORM", message, **details)


def shown(value: Any) -> str:
    """Return a client's value for a sentence: as JSON, at most about 60 characters, never a whole list."""
    import orjson  # imported late: routers have no layer, and never show a value

    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str) and len(value) > 50:
        return orjson.dumps(value[:50]).decode()[:-1] + '..."'
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return orjson.dumps(value).decode()
