"""A stage's `cors` in the document: a preflight for each path, and the headers of API Gateway's own errors.

Source: API Gateway Developer Guide, "Enable CORS on a resource using the OpenAPI definition" and "Override your API's
response parameters and status codes"; aws/chalice#1310 for `contentHandling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.manifest.access import Cors
from turnout.protocol.aws.cors import ANY_ORIGIN, EXPOSED, render_origin_template

PREFLIGHT = "options"
"""The method of a preflight; Turnout uses it for nothing else."""

REQUESTED_ORIGIN = "method.request.header.Origin"
"""The reference to the request's origin in a gateway response."""


def build_preflight(cors: Cors, operation_id: str) -> dict[str, Any]:
    """Return the operation that answers a preflight with 204 and calls no function.

    Every type is binary to the API, and API Gateway fails on a mock's body unless `contentHandling` makes it text.
    """
    is_open = ANY_ORIGIN in cors.origins
    headers = {
        **({"Access-Control-Allow-Origin": ANY_ORIGIN} if is_open else {"Vary": "Origin"}),
        "Access-Control-Allow-Methods": ",".join(cors.methods),
        **({"Access-Control-Allow-Headers": ",".join(cors.headers)} if cors.headers else {}),
        "Access-Control-Max-Age": str(cors.max_age_s),
        **({"Access-Control-Allow-Credentials": "true"} if cors.credentials else {}),
    }
    declared = (*headers, *(() if is_open else ("Access-Control-Allow-Origin",)))
    return {
        "operationId": operation_id,
        "tags": ["CORS"],
        "summary": "Answers a browser's preflight",
        "security": [],
        "responses": {
            "204": {
                "description": "What the stage allows.",
                "headers": {name: {"schema": {"type": "string"}} for name in declared},
            }
        },
        "x-amazon-apigateway-integration": {
            "type": "mock",
            "passthroughBehavior": "when_no_match",
            "contentHandling": "CONVERT_TO_TEXT",
            "requestTemplates": {"application/json": '{"statusCode": 204}'},
            "responses": {
                "default": {
                    "statusCode": "204",
                    "contentHandling": "CONVERT_TO_TEXT",
                    "responseParameters": {f"method.response.header.{name}": f"'{v}'" for name, v in headers.items()},
                    "responseTemplates": {
                        "application/json": "" if is_open else render_origin_template(cors.origins),
                    },
                }
            },
        },
    }


def customize_errors(responses: Mapping[str, Any], cors: Cors | None) -> dict[str, Any]:
    """Return API Gateway's own errors with headers that let the allowed pages read them.

    A gateway response cannot compare origins. A single origin is a constant. With several, API Gateway repeats the
    request's origin, without credentials: any other page could read only the message of an error.
    """
    if cors is None:
        return dict(responses)
    origin = f"'{cors.origins[0]}'" if len(cors.origins) == 1 else REQUESTED_ORIGIN
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": f"'{EXPOSED}'",
        **({} if ANY_ORIGIN in cors.origins else {"Vary": "'Origin'"}),
        **({"Access-Control-Allow-Credentials": "'true'"} if cors.credentials and len(cors.origins) == 1 else {}),
    }
    named = {f"gatewayresponse.header.{name}": value for name, value in headers.items()}
    kinds = dict.fromkeys((*responses, "DEFAULT_4XX", "DEFAULT_5XX"))
    return {
        kind: {
            **responses.get(kind, {}),
            "responseParameters": {**responses.get(kind, {}).get("responseParameters", {}), **named},
        }
        for kind in kinds
    }
