"""One step of a graph: the event of its call, and the tensors in its response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pybase64

from turnout.protocol.aws.events import read_event
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES
from turnout.protocol.errors import STATUS_OF, RequestError
from turnout.protocol.routing.choice import ASYNCHRONOUS
from turnout.protocol.routing.step_tensors import BadAnswerError, Tensors, read_step, write_step

from ..calls import CallOutcome
from ..proxy_answers import status_of

_OF_THE_BODY = frozenset({"content-encoding", "content-length", "content-type", "inference-header-content-length"})
"""Headers that describe the caller's body, not a step's."""

_CODES = {"timed_out": "STEP_TIMED_OUT", "throttled": "STEP_THROTTLED", "request_too_large": "PAYLOAD_TOO_LARGE"}

_SENTENCES = {
    "timed_out": "timed out",
    "throttled": "is throttled",
    "too_large": "returned a response above Lambda's limit",
    "request_too_large": "got a request above Lambda's limit",
    "unknown_function": "has no function",
}


def step_event(caller: Mapping[str, Any], inputs: Tensors, step: str) -> dict[str, Any]:
    """Return the event of a step's call: the caller's event, with its trace and request id, and other tensors.

    Raises:
        RequestError: PAYLOAD_TOO_LARGE if the tensors exceed Lambda's limit.
    """
    headers, body = write_step(inputs)
    encoded = pybase64.b64encode_as_string(body)
    if len(encoded) > LARGEST_BODY_BYTES:
        message = f"{step}: its tensors are {len(encoded)} bytes in base64, expected at most {LARGEST_BODY_BYTES}"
        raise RequestError("PAYLOAD_TOO_LARGE", message, expected=LARGEST_BODY_BYTES, got=len(encoded))
    kept = {name: value for name, value in (caller.get("headers") or {}).items() if name.lower() not in _OF_THE_BODY}
    sent = {**kept, **headers}
    multiple = {name: [value] for name, value in sent.items()}
    made = {**caller, "headers": sent, "multiValueHeaders": multiple, "body": encoded, "isBase64Encoded": True}
    said = caller.get("turnout") or {}
    if ASYNCHRONOUS in said:  # the files and the objects are those of the graph's own body and answer
        made["turnout"] = {**said, ASYNCHRONOUS: {"draw": said[ASYNCHRONOUS].get("draw")}}
    return made


def read_outcome(model: str, outcome: CallOutcome) -> Tensors:
    """Return the tensors that a step returned.

    Raises:
        RequestError: the model's own error, or STEP_FAILED, STEP_TIMED_OUT, STEP_THROTTLED.
    """
    step = f"{model} {outcome.version}"
    answer = outcome.answered.answer
    if answer is None:
        error = outcome.answered.error
        sentence = f"{step} {_SENTENCES.get(error, 'failed; see its log')}"
        raise RequestError(_CODES.get(error, "STEP_FAILED"), sentence, step=step)
    if status_of(answer) != 200:
        raise _refused(step, answer)
    try:
        return read_step(*read_event(answer))
    except (RequestError, BadAnswerError) as error:
        raise RequestError(
            "STEP_FAILED", f"{step} returned a response that cannot be parsed: {error}", step=step
        ) from None


def _refused(step: str, answer: Mapping[str, Any]) -> RequestError:
    """Return the error of a step whose model failed: client errors keep their code, others become the step's."""
    status = status_of(answer)
    try:
        said = json.loads(answer.get("body") or "")
        code, sentence, details = said["code"], said["error"], said.get("details", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return RequestError("STEP_FAILED", f"{step} answered {status}", step=step)
    if status >= 500 or STATUS_OF.get(code) != status or not isinstance(details, dict):
        return RequestError("STEP_FAILED", f"{step} answered {status}: {sentence}", step=step)
    return RequestError(code, f"{step}: {sentence}", **{**details, "step": step})
