"""The proxy event, format 1.0, exactly as API Gateway sends it to a Lambda function behind a Regional endpoint.

The body is text, or base64 if the request's content type is among the API's binary media types. Text that is not UTF-8
arrives as on AWS, with each invalid byte replaced by U+FFFD, so such a body must be declared binary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import pybase64

from turnout.gateway.api.exchange import Exchange, Routed
from turnout.gateway.api.fields import CONTENT_TYPE, FORWARDED_FOR, HOST, TRACE, USER_AGENT
from turnout.gateway.api.identifiers import RequestTimes, trace_root
from turnout.gateway.rules.document import Operation
from turnout.gateway.rules.stages import CompiledStage, Share
from turnout.http_server.clients import domain_of
from turnout.protocol.aws.limits import LARGEST_EVENT_BYTES
from turnout.protocol.naming import CANARY_VARIABLE

_SURELY_SMALL_BYTES = 1_000_000
"""Size of a body that cannot make an event of 6 MB, whatever its escapes cost (at most six bytes each)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The fields of events that describe the server.

    Args:
        account_id: twelve digits.
        scheme: `X-Forwarded-Proto`; always https on AWS.
        port: `X-Forwarded-Port`; always 443 on AWS.
    """

    account_id: str = "000000000000"
    scheme: str = "http"
    port: int = 80


_IDENTITY: dict[str, Any] = {
    "cognitoIdentityPoolId": None,
    "accountId": None,
    "cognitoIdentityId": None,
    "caller": None,
    "sourceIp": None,
    "principalOrgId": None,
    "accessKey": None,
    "cognitoAuthenticationType": None,
    "cognitoAuthenticationProvider": None,
    "userArn": None,
    "userAgent": None,
    "user": None,
}
_IDENTITY_WITH_KEY = {**_IDENTITY, "apiKey": None, "apiKeyId": None}


class Events:
    """Makes events for one endpoint.

    Args:
        endpoint: the same for all requests.
        times: the request times.
    """

    __slots__ = ("_account_id", "_port", "_scheme", "_times")

    def __init__(self, endpoint: Endpoint, times: RequestTimes) -> None:
        self._account_id = endpoint.account_id
        self._scheme = endpoint.scheme
        self._port = str(endpoint.port)
        self._times = times

    def build(
        self,
        exchange: Exchange,
        routed: Routed,
        query: tuple[dict[str, str] | None, dict[str, list[str]] | None],
    ) -> dict[str, Any]:
        """Return the event of one request."""
        stage, share, operation, fields = routed.stage, routed.share, routed.operation, routed.fields
        request, known, client = exchange.request, fields.known, exchange.request.client
        # The function may change its event, so each event has its own dicts and lists.
        single = {**fields.single}
        forwarded = known[FORWARDED_FOR]
        single["X-Forwarded-For"] = f"{forwarded}, {client}" if forwarded else client
        single["X-Forwarded-Port"] = self._port
        single["X-Forwarded-Proto"] = self._scheme
        trace = known[TRACE]
        if trace is None or "root=" not in trace.lower():
            single["X-Amzn-Trace-Id"] = trace = trace_root(exchange.taken, exchange.now)
        exchange.trace = trace
        multiple = {name: [value] for name, value in single.items()}
        for name, values in fields.repeated.items():
            if values[-1] == single[name]:  # otherwise it was replaced above
                multiple[name] = [*values]
        key = exchange.key
        if key is None:
            identity = _IDENTITY.copy()
        else:
            identity = _IDENTITY_WITH_KEY.copy()
            identity["apiKey"] = key.value
            identity["apiKeyId"] = key.id
        if exchange.signer:
            arn = f"arn:aws:iam::{self._account_id}:user/local"
            identity |= {"accessKey": exchange.signer, "accountId": self._account_id, "caller": exchange.signer}
            identity |= {"user": exchange.signer, "userArn": arn}
        identity["sourceIp"] = client
        identity["userAgent"] = known[USER_AGENT]
        # What is the same for all requests to a route is cached on the stage's share and dropped together with it.
        kept = share.contexts.get(operation.index)
        if kept is None:
            kept = share.contexts[operation.index] = self._constant_context(stage, share, operation)
        context = kept.copy()
        context["httpMethod"] = request.method
        context["extendedRequestId"] = exchange.extended_request_id
        context["requestTime"] = self._times.at(exchange.now)
        domain = exchange.domain
        context["path"] = exchange.stage_path if domain is None else domain.sent
        context["domainName"], context["domainPrefix"] = domain_of(known[HOST] or "")
        context["requestTimeEpoch"] = int(exchange.now * 1000)
        context["requestId"] = exchange.request_id
        context["identity"] = identity
        if exchange.claims is not None or (key is not None and key.consumer is not None):
            context["authorizer"] = _authorizer_of(exchange)
        variables, parameters = share.variables, routed.parameters
        body, is_binary = encode_body(request.body, is_binary=known[CONTENT_TYPE] in stage.document.binary_media_types)
        event = {
            "resource": operation.resource,
            # Behind a custom domain, `path` contains the mapping's base path. Source: localstack/localstack#12296.
            "path": exchange.path if domain is None else domain.sent,
            "httpMethod": request.method,
            "headers": single,
            "multiValueHeaders": multiple,
            "queryStringParameters": query[0],
            "multiValueQueryStringParameters": query[1],
            "pathParameters": parameters and {**parameters},
            "stageVariables": None if variables is None else {**variables},
            "requestContext": context,
            "body": body,
            "isBase64Encoded": is_binary,
        }
        if exchange.is_replayed:
            event["turnout"] = {"replay": True}
        return event

    def _constant_context(self, stage: CompiledStage, share: Share, operation: Operation) -> dict[str, Any]:
        """Return the request context with all its keys, in AWS's order."""
        context: dict[str, Any] = {
            "resourceId": operation.resource_id,
            "resourcePath": operation.resource,
            "httpMethod": None,
            "extendedRequestId": None,
            "requestTime": None,
            "path": None,
            "accountId": self._account_id,
            "protocol": "HTTP/1.1",
            "stage": stage.settings.name,
            "domainPrefix": None,
            "requestTimeEpoch": None,
            "requestId": None,
            "identity": None,
            "domainName": None,
            "deploymentId": share.deployment_id,
            "apiId": stage.settings.api,
        }
        # As in LocalStack, only where the stage has a canary; also where the variables claim one, because the canary's
        # overrides were copied onto them.
        if stage.canary is not None or (share.variables or {}).get(CANARY_VARIABLE) == "true":
            context["isCanaryRequest"] = share.is_canary
        return context


def _authorizer_of(exchange: Exchange) -> dict[str, Any]:
    """Return the authorizer's context for a caller with claims or a name."""
    if exchange.claims is not None:
        return {"claims": {name: _spell_claim(value) for name, value in exchange.claims.items()}}
    name = exchange.caller
    return {"caller": name, "principalId": name, "integrationLatency": 0}


def _spell_claim(value: Any) -> str:
    """Return a claim as API Gateway writes it into an event: always as text."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def encode_body(body: bytes, *, is_binary: bool) -> tuple[str | None, bool]:
    """Return the event's body and whether it is base64; an empty body is None."""
    if not body:
        return None, False
    if is_binary:
        return pybase64.b64encode_as_string(body), True
    return body.decode("utf-8", "replace"), False


def is_too_large(event: dict[str, Any], body: bytes) -> bool:
    """Whether Lambda would reject the event: more than 6 MB as JSON."""
    if len(body) <= _SURELY_SMALL_BYTES:
        return False
    if event["isBase64Encoded"]:
        # Base64 needs no escaping, so its size is known without serializing it.
        return len(orjson.dumps({**event, "body": ""})) + len(event["body"]) > LARGEST_EVENT_BYTES
    return len(orjson.dumps(event)) > LARGEST_EVENT_BYTES
