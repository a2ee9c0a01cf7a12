"""Decides from a run's answer whether its request is done, has failed or is tried again."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class Outcome(enum.Enum):
    """The outcome of a run for its request."""

    DONE = "done"
    FINAL = "failed, as every further run would"
    AGAIN = "failed; another run may succeed"
    NO_ROOM = "not run; does not count"


def judge_status(status: int) -> Outcome:
    """Return the outcome of an answer with this status."""
    if status < 400:
        return Outcome.DONE
    if status == 429:
        return Outcome.NO_ROOM
    return Outcome.AGAIN if status >= 500 else Outcome.FINAL


def judge_error(error: str) -> Outcome:
    """Return the outcome of a call without an answer; `error` is that of `Invocation.error`."""
    if error == "throttled":
        return Outcome.NO_ROOM
    return Outcome.FINAL if error in {"unknown_function", "too_large", "request_too_large"} else Outcome.AGAIN


_STATUS_OF_ERROR: Mapping[str, int] = {"timed_out": 504, "throttled": 429, "unknown_function": 500}

_CODES: Mapping[str, str] = {
    "timed_out": "TIMED_OUT",
    "unknown_function": "UNKNOWN_VERSION",
    "too_large": "ANSWER_TOO_LARGE",
}

_SENTENCES: Mapping[str, str] = {
    "timed_out": "the run took longer than the version's timeout",
    "unknown_function": "the version is no longer served",
    "too_large": "the answer is larger than a function's answer may be",
}


def status_of_error(error: str) -> int:
    """Return the HTTP status of a call without an answer."""
    return _STATUS_OF_ERROR.get(error, 502)


def describe_error(error: str, attempt: int) -> dict[str, Any]:
    """Return the failure of a call without an answer, in the format of the API's errors."""
    sentence = _SENTENCES.get(error, "the function failed or returned a malformed response")
    return {"error": sentence, "code": _CODES.get(error, "FUNCTION_FAILED"), "details": {"attempt": attempt}}


def read_failure(status: int, body: bytes) -> dict[str, Any]:
    """Return the error in an answer, in the format of the API's errors, for any body."""
    with suppress(ValueError):
        said = json.loads(body)
        if isinstance(said, dict) and isinstance(said.get("error"), str):
            return {"error": said["error"], "code": str(said.get("code", "")), "details": said.get("details", {})}
        if isinstance(said, dict) and isinstance(said.get("message"), str):
            return {"error": said["message"], "code": "FUNCTION_FAILED", "details": {}}
    return {"error": f"the function answered with status {status}", "code": "FUNCTION_FAILED", "details": {}}
