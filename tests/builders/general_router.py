"""A general router with a small catalogue, functions with configured answers, and events of its routes."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router_lambda.general.router import GeneralRouter
from turnout.protocol.aws.events import make_answer
from turnout.protocol.routing.catalogue import Catalogue, ModelEntry, VersionEntry
from turnout.protocol.routing.invocation import Answered

PREFIX = "turnout-local"
X = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
Y = {"name": "y", "datatype": "INT64", "shape": [-1]}
ANY_RANK = {"name": "z", "datatype": "BYTES", "shape": None}
EXAMPLE = {"name": "first", "request": {"inputs": {"x": [[1, 2, 3, 4]]}}, "response": {"outputs": []}}

VARIABLES = {
    "iris": "v1",
    "forest": "router",
    "forestRoute": "v1.90,v2.10",
    "triage": "router",
    "triageRoute": "graph",
    "alias": "live",
    "canary": "false",
}


def version_entry(name: str, size_bytes: int = 1000, **signature: Any) -> VersionEntry:
    return VersionEntry(
        name,
        f"{name} of it",
        "ab" * 32,
        size_bytes,
        {"inputs": [X], "outputs": [Y], **signature},
        platform="onnxruntime_onnx",
        examples=(EXAMPLE,),
    )


def model_entry(name: str, *versions: str, **fields: Any) -> ModelEntry:
    entries = {version: version_entry(version) for version in versions}
    return ModelEntry(name, name, f"{name}Route", entries, f"What {name} does.", **fields)


def small_catalogue() -> Catalogue:
    """`iris` with two versions, `forest` with weights, `triage`, a graph of both."""
    models = (
        model_entry("iris", "v1", "v2"),
        model_entry("forest", "v1", "v2", routing={"fallback": "v1"}),
        model_entry("triage", signature={"inputs": [X], "outputs": [ANY_RANK]}, calls=(("iris", ""), ("forest", "v2"))),
    )
    return Catalogue(
        PREFIX, "turnout", "1.2.3", {model.name: model for model in models}, {"prod": '{"openapi":"3.0.3"}'}
    )


@dataclass
class FakeFunctions:
    """Answers calls with the entry for the function's name, by default with 200; records all calls."""

    answers: Mapping[str, Answered | Mapping[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str, Mapping[str, Any], float]] = field(default_factory=list)

    async def __call__(
        self, function: str, alias: str, event: Mapping[str, Any], *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        assert not asynchronous
        self.calls.append((function, alias, event, deadline_s))
        await asyncio.sleep(0)
        result = self.answers.get(function, make_answer(200, {"Content-Type": "application/json"}, b'{"outputs":[]}'))
        return result if isinstance(result, Answered) else Answered(result)

    @property
    def called(self) -> list[str]:
        return [function for function, *_ in self.calls]


def route_event(
    resource: str,
    method: str = "GET",
    *,
    variables: Mapping[str, str] | None = None,
    path: str = "",
    base: str = "/prod",
    **parameters: str,
) -> dict[str, Any]:
    """Return the event of one of the general router's routes; `proxy=`, `model=`, `version=` are its path
    parameters.
    """
    path = path or resource.format_map({**parameters, "proxy+": parameters.get("proxy", "")})
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": {"Host": "api.example.com", "X-Forwarded-Proto": "https"},
        "pathParameters": parameters or None,
        "stageVariables": dict(VARIABLES if variables is None else variables),
        "requestContext": {"stage": "prod", "path": base + path},
        "body": None,
        "isBase64Encoded": False,
    }


def v2_event(proxy: str, method: str = "GET", **fields: Any) -> dict[str, Any]:
    return route_event("/v2/{proxy+}", method, proxy=proxy, **fields)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    json: Any


def ask(
    event: Mapping[str, Any],
    functions: FakeFunctions | None = None,
    catalogue: Catalogue | None = None,
    router: GeneralRouter | None = None,
) -> Reply:
    """Return the router's answer, decoded."""
    router = router or GeneralRouter(catalogue or small_catalogue(), functions or FakeFunctions())
    answer = asyncio.run(router.answer(event, time.monotonic() + 20))
    assert answer["headers"]["Content-Type"] == "application/json"
    body = answer["body"]
    if answer["isBase64Encoded"]:
        assert answer["headers"]["Content-Encoding"] == "gzip"
        body = gzip.decompress(base64.b64decode(body, validate=True))
    return Reply(answer["statusCode"], answer["headers"], json.loads(body))
