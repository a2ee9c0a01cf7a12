"""Small OpenAPI documents, requests and fake functions for tests of the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.gateway.api.gateway import Gateway, RestApi
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.http_server.messages import Request, Response
from turnout.manifest.parser import Throttle

API = "a1b2c3d4e5"
HOST = f"{API}.execute-api.eu-west-1.amazonaws.com"
API_KEY_SCHEME = {"type": "apiKey", "name": "x-api-key", "in": "header"}
IAM_SCHEME = {
    "type": "apiKey",
    "name": "Authorization",
    "in": "header",
    "x-amazon-apigateway-authtype": "awsSigv4",
}

Answer = Callable[[Mapping[str, Any]], Any]


@dataclass
class FakeFunctions:
    """Answers every invocation with `answer(event)`, and records the calls."""

    answer: Answer = lambda event: {"statusCode": 200, "body": "ok"}
    events: list[Mapping[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str, float]] = field(default_factory=list)

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        self.events.append(event)
        self.calls.append((name, alias, timeout_s))
        answer: Any = self.answer(event)
        return answer if isinstance(answer, Invocation | Awaitable) else Invocation(answer)

    def close(self) -> None:
        """Nothing to close."""


def uri(function: str) -> str:
    """Return the URI of an integration."""
    return (
        "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/"
        f"arn:aws:lambda:eu-west-1:000000000000:function:{function}/invocations"
    )


def operation(
    function: str = "fn:live", *, integration: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return an operation with its integration."""
    return {
        **more,
        "x-amazon-apigateway-integration": {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": uri(function),
            **(integration or {}),
        },
    }


def document(paths: Mapping[str, Mapping[str, Any]], **root: Any) -> dict[str, Any]:
    """Return a document; `root` keys may be extensions without their prefix, with underscores."""
    extensions = {
        f"x-amazon-apigateway-{key.replace('_', '-')}": value for key, value in root.items() if key != "components"
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "test", "version": "1"},
        **extensions,
        "paths": dict(paths),
        "components": root.get("components", {}),
    }


def stage(
    name: str = "dev",
    variables: Mapping[str, str] | None = None,
    *,
    canary: CanarySettings | None = None,
    throttle: Throttle | None = None,
    api: str = API,
) -> StageSettings:
    """A stage on deployment `d1`."""
    return StageSettings(name, api, "d1", variables or {}, canary, throttle)


def gateway(
    paths: Mapping[str, Mapping[str, Any]], functions: FakeFunctions, *stages: StageSettings, **more: Any
) -> Gateway:
    """A gateway with one API; keyword arguments of `document` are passed to it, others to `Gateway`."""
    mine = {"api_keys", "default_stage", "endpoint", "clock", "monotonic", "random", "observers"}
    mine |= {"services", "replay_token"}
    own = {key: value for key, value in more.items() if key in mine}
    rest = {key: value for key, value in more.items() if key not in mine}
    return Gateway([RestApi(API, document(paths, **rest), stages or (stage(),))], functions, **own)


def request(
    path: str, method: str = "POST", *, query: str = "", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Request:
    """A request with a `Host`."""
    return Request(method, path, query, (("Host", HOST), *(headers or {}).items()), body)


def respond(gateway: Gateway, request: Request) -> Response:
    """Return the response of a function that answers immediately."""
    response = gateway.handle(request)
    assert isinstance(response, Response)
    return response
