"""Builds the operations of asynchronous requests: read the state, fetch the answer, cancel, upload a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.openapi.general_operations import path_parameters
from turnout.openapi.inference_operations import BINARY, ERRORS, describe_error, spell_integration
from turnout.openapi.schemas import ERROR
from turnout.openapi.tensor_schemas import Schema
from turnout.plan.values import Route
from turnout.protocol.naming import CALLBACK_HEADER, UPLOAD_HEADER
from turnout.protocol.requests.refusals import STATUS_OF
from turnout.protocol.requests.states import RequestState

REQUEST, UPLOAD = "AsyncRequest", "Upload"


def list_refusals(status: int) -> str:
    """Return the possible codes of refusals with this status."""
    return ", ".join(f"`{code}`" for code, of in STATUS_OF.items() if of == status)


REFUSALS = {
    status: describe_error(f"{meaning}: {list_refusals(int(status))}.", ERROR)
    for status, meaning in (
        ("400", "Invalid request"),
        ("404", "Not found"),
        ("409", "The request's state does not allow it"),
        ("413", "The body is too large"),
        ("422", "The body is not the one that was announced"),
        ("503", "Too many requests wait. `Retry-After` says when to try again"),
        ("507", "Too many bodies and answers are stored"),
    )
}


def _parameter(name: str, place: str, description: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


(ID,) = path_parameters("/requests/{id}")

HEADERS = (
    _parameter("Prefer", "header", "`respond-async` answers 202 at once; the answer is fetched later."),
    _parameter(UPLOAD_HEADER, "header", "With `Prefer: respond-async`: the upload that is the body, sent empty."),
    _parameter(CALLBACK_HEADER, "header", "With `Prefer: respond-async`: address that the result is sent to."),
)
"""Headers of an inference in an API that accepts asynchronous requests."""

ACCEPTED = {
    "description": "Accepted. `Location` is the request's address, `Retry-After` says when to ask for its state.",
    "headers": {
        name: {"description": description, "schema": {"type": "string"}}
        for name, description in (("Location", "Address of the request."), ("Retry-After", "Seconds."))
    },
    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{REQUEST}"}}},
}


def with_async(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an inference's operation with what asynchronous calls add to it."""
    added = {status: REFUSALS[status] for status in ("409", "503", "507") if status not in operation["responses"]}
    return {
        **operation,
        "parameters": [*operation.get("parameters", ()), *HEADERS],
        "responses": {**operation["responses"], "202": ACCEPTED, **added},
    }


@dataclass(frozen=True, slots=True)
class RequestPurpose:
    """The purpose of an operation."""

    id: str
    summary: str
    responses: Mapping[str, Any]
    parameters: tuple[dict[str, Any], ...] = (ID,)
    body: Mapping[str, Any] | None = None


def _described(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


_ANY = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": BINARY}
_STATE = _described("The request.", REQUEST)

PURPOSES: Mapping[tuple[str, str], RequestPurpose] = {
    ("GET", "/requests/{id}"): RequestPurpose("getRequest", "State of an asynchronous request", {"200": _STATE}),
    ("PUT", "/requests/{id}"): RequestPurpose(
        "putRequest",
        "Asynchronous inference under an identifier that the caller chooses: sent twice, it runs once",
        {
            "200": _described("The same request was sent before.", REQUEST),
            "202": ACCEPTED,
            **{status: REFUSALS[status] for status in ("400", "409", "413", "422", "503", "507")},
        },
        (
            ID,
            _parameter("model", "query", "The model to call.", required=True),
            _parameter("version", "query", "The version to call; omitted, the one that the stage serves."),
            *HEADERS[1:],
        ),
        {"required": False, "description": "As for the model's inference.", "content": _ANY},
    ),
    ("DELETE", "/requests/{id}"): RequestPurpose(
        "cancelRequest",
        "Cancel a request that has not begun",
        {"200": _STATE, "409": REFUSALS["409"]},
    ),
    ("GET", "/requests/{id}/answer"): RequestPurpose(
        "getRequestAnswer",
        "The answer of a request that is done, in the request's format",
        {
            "200": {"description": "The answer.", "content": _ANY},
            "303": {"description": "A large answer: `Location` is a signed address of it."},
            "409": REFUSALS["409"],
        },
    ),
    ("POST", "/uploads"): RequestPurpose(
        "createUpload",
        "Announce a large body: returns signed addresses to PUT its parts to",
        {"201": _described("Where to put the parts.", UPLOAD), **{key: REFUSALS[key] for key in ("400", "413", "507")}},
        (),
        {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UploadWish"}}}},
    ),
}
"""The purpose of each route."""


def build_request_operation(
    route: Route, *, security: list[dict[str, list[str]]], uri: str, credentials: str
) -> dict[str, Any]:
    """Return the operation object of one route."""
    purpose = PURPOSES[route.method, route.path]
    body = {} if purpose.body is None else {"requestBody": dict(purpose.body)}
    return {
        "operationId": purpose.id,
        "tags": ["Asynchronous requests"],
        "summary": purpose.summary,
        "security": security,
        "parameters": list(purpose.parameters),
        **body,
        "responses": {**purpose.responses, "403": ERRORS["403"], "404": REFUSALS["404"], "429": ERRORS["429"]},
        "x-amazon-apigateway-integration": spell_integration(route, uri, credentials),
    }


_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}


def _object(description: str, required: str, properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "description": description, "required": required.split(), "properties": dict(properties)}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


REQUEST_SCHEMAS: Mapping[str, Schema] = {
    REQUEST: _object(
        "An asynchronous request.",
        "id state",
        {
            "id": _TEXT,
            "state": {"type": "string", "enum": [str(state) for state in RequestState]},
            "stage": _TEXT,
            "share": {"type": "string", "enum": ["baseline", "canary"]},
            "model": _TEXT,
            "version": _text("Empty until a router has chosen."),
            "path": _TEXT,
            "attempts": {"type": "integer", "description": "Runs so far."},
            **{name: _text("ISO 8601, UTC; null until then.") for name in ("accepted", "begun", "ended", "expires")},
            "answer": _object(
                "The answer's address, once the request is done.",
                "address",
                {"address": _TEXT, "status": _WHOLE, "content_type": _TEXT, "bytes": _WHOLE, "sha256": _TEXT},
            ),
            "error": {"type": "object", "description": "Why the request or its last run failed."},
            "callback": _text("State of the webhook: `waiting`, `delivered` or `failed`."),
        },
    ),
    "UploadWish": _object(
        "An announced body.",
        "bytes",
        {"bytes": _WHOLE, "sha256": _text("The body's digest in hexadecimal; checked if it is given.")},
    ),
    UPLOAD: _object(
        "An announced body.",
        "id parts",
        {
            "id": _text(f"For the header `{UPLOAD_HEADER}`."),
            "bytes": _WHOLE,
            "expires": _TEXT,
            "parts": {
                "type": "array",
                "items": _object(
                    "A part of the body.",
                    "address first_byte bytes",
                    {"address": _text("PUT it here."), "first_byte": _WHOLE, "bytes": _WHOLE},
                ),
            },
        },
    ),
}
