"""A model's answer as a table, and an error's as sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from turnout.cli.output import CommandError, notify, say, say_table
from turnout.client.refusals import ERROR_TYPE, find_hint
from turnout.protocol.naming import CANARY_HEADER, DIGEST_HEADER, MODEL_HEADER, VERSION_HEADER
from turnout.wording import printable, shorten

if TYPE_CHECKING:
    from turnout.client.connection import ApiAnswer

SHOWN_VALUES = 10
"""Most values of an output that are printed; the others are counted."""

SHOWN_CHARACTERS = 60
"""Most characters of one text value that are printed."""

MOST_BYTES = 500
"""Most characters shown of an error that Turnout did not write, such as a proxy's page."""


@dataclass(frozen=True, slots=True)
class ShownOutput:
    """One output of any form of answer; `datatype` is empty if the form omits it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]


def say_answer(answer: ApiAnswer) -> None:
    """Print which version answered and how fast, then the outputs."""
    try:
        outputs = list(outputs_of(json.loads(answer.body)))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        outputs = []
    if not outputs:
        text = shorten(answer.body[:MOST_BYTES].decode(errors="replace"))
        message = f"the response (HTTP {answer.status}) does not come from a model: {text}"
        raise CommandError(message, "Check that --url is the address of an API that Turnout serves.", code=1)
    say(summary_of(answer))
    rows = [
        (output.name, output.datatype or "-", shape_text(output.shape), values_text(output.values))
        for output in outputs
    ]
    say()
    say_table(("OUTPUT", "DATATYPE", "SHAPE", "VALUES"), rows)
    if any(len(output.values) > SHOWN_VALUES for output in outputs):
        say("\nLong outputs are truncated. --json prints all of them.")


def summary_of(answer: ApiAnswer) -> str:
    """Return `iris v1 answered in 3.1 ms (HTTP 200, digest 5f1c0a9b2c3d, canary false)`, as far as known."""
    headers = answer.headers
    who = " ".join(headers[key] for key in (MODEL_HEADER, VERSION_HEADER) if key in headers)
    facts = [f"HTTP {answer.status}"]
    facts += [
        f"{name} {headers[key]}"
        for name, key in (("digest", DIGEST_HEADER), ("canary", CANARY_HEADER))
        if key in headers
    ]
    return printable(f"{who or 'The server'} answered in {answer.elapsed_ms:.1f} ms ({', '.join(facts)})")


def outputs_of(body: Any) -> Iterator[ShownOutput]:
    """Return the outputs in any form of answer.

    It is the Open Inference Protocol's list, or nested lists by name or by row.
    """
    outputs = body.get("outputs", {}) if isinstance(body, Mapping) else {}
    if isinstance(outputs, list):
        for output in outputs:
            yield ShownOutput(output["name"], output["datatype"], tuple(output["shape"]), flat(output.get("data", [])))
        return
    if isinstance(body, Mapping) and "predictions" in body:
        predictions = body["predictions"]
        if predictions and all(isinstance(prediction, Mapping) for prediction in predictions):
            outputs = {name: [prediction[name] for prediction in predictions] for name in predictions[0]}
        else:
            outputs = {"predictions": predictions}
    for name, nested in outputs.items():
        yield ShownOutput(name, "", shape_of(nested), flat(nested))


def flat(nested: Any) -> tuple[Any, ...]:
    """Return nested lists as one, in row-major order."""
    return tuple(leaf for inner in nested for leaf in flat(inner)) if isinstance(nested, list) else (nested,)


def shape_of(nested: Any) -> tuple[int, ...]:
    """Return the dimensions of nested lists, read from the first element of each."""
    if not isinstance(nested, list):
        return ()
    return (len(nested), *(shape_of(nested[0]) if nested else ()))


def shape_text(shape: tuple[int, ...]) -> str:
    """Return `[1,3]`."""
    return f"[{','.join(map(str, shape))}]"


def values_text(values: tuple[Any, ...]) -> str:
    """Return the first values, floats to six digits and texts quoted, with the total number if some are left out."""
    shown = ", ".join(value_text(value) for value in values[:SHOWN_VALUES])
    return f"{shown}, ... ({len(values):,} values)" if len(values) > SHOWN_VALUES else shown


def value_text(value: Any) -> str:
    """Return one value as text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value, ensure_ascii=False)
    return f"{text[:SHOWN_CHARACTERS]}..." if len(text) > SHOWN_CHARACTERS else text


def print_error_answer(answer: ApiAnswer, *, is_listed: bool = False) -> None:
    """Print an error's code and message, and the remedy if it is known.

    Args:
        answer: an error of a model or of API Gateway.
        is_listed: whether models.yaml contains the requested version.
    """
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    kind = answer.headers.get(ERROR_TYPE, "")
    reason = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else ""
    sentence = body.get("error") or body.get("message") or answer.body[:MOST_BYTES].decode(errors="replace")
    notify(printable(f"turnout: HTTP {answer.status} {body.get('code') or kind or reason}: {sentence}".rstrip(": ")))
    hint = find_hint(answer.headers, is_listed=is_listed)
    if hint:
        notify(f"    {hint}")
