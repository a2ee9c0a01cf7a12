"""One request on its way through the gateway, with everything that is known about it.

The core makes it for each request; later steps read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from turnout.gateway.api.fields import HOST, ORIGIN, USER_AGENT, Fields, fields_of
from turnout.gateway.api.identifiers import RequestTimes, extended_request_id, request_id
from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.document import Operation
from turnout.gateway.rules.errors import GatewayError
from turnout.gateway.rules.stages import CompiledStage, FunctionTarget, Share
from turnout.http_server.clients import domain_of
from turnout.http_server.messages import Request, Response


class Routed:
    """The operation and share that answer a request, once its path and method are matched.

    Args:
        stage: the stage.
        share: the baseline or the canary, chosen for this request.
        operation: the operation in the stage's document.
        parameters: path parameters; None if there are none.
        fields: the request's header fields.
    """

    __slots__ = ("fields", "operation", "parameters", "share", "stage")

    def __init__(
        self, stage: CompiledStage, share: Share, operation: Operation, parameters: Any, fields: Fields
    ) -> None:
        self.stage = stage
        self.share = share
        self.operation = operation
        self.parameters = parameters
        self.fields = fields


@dataclass(frozen=True, slots=True)
class DomainPath:
    """A path on the domain's host name: as it was sent, and without the base path; None if it is outside of it."""

    sent: str
    inner: str | None


class Exchange:
    """One request and its outcome, filled in step by step.

    Attributes:
        stage: None until the path has selected a stage; likewise `share`.
        routed: None until path and method have selected an operation.
        target: None until the request has been admitted and validated.
        domain: set if the request came through the domain's host name, else None.
        signer: the access key that signed the request, or empty.
        claims: the claims of its token, or None.
        trace: the trace in the event; empty until there is one.
        span: the OpenTelemetry span, if requests are traced and a function is called; else None.
        error: why the gateway answered the request itself, or None.
        is_replayed: whether it is a replay, which is neither captured nor counted.

    Args:
        request: the request as the server read it.
        taken: the random characters of its ids.
        now: seconds since 1970.
        started: start time of the monotonic clock.
    """

    __slots__ = (
        "claims",
        "domain",
        "error",
        "extended_request_id",
        "is_replayed",
        "key",
        "now",
        "path",
        "request",
        "request_id",
        "routed",
        "share",
        "signer",
        "span",
        "stage",
        "stage_path",
        "started",
        "taken",
        "target",
        "trace",
    )

    def __init__(self, request: Request, taken: str, now: float, started: float) -> None:
        self.request = request
        self.taken = taken
        self.now = now
        self.started = started
        self.request_id = request_id(taken)
        self.extended_request_id = extended_request_id(taken)
        self.path = self.stage_path = request.path
        self.stage: CompiledStage | None = None
        self.share: Share | None = None
        self.routed: Routed | None = None
        self.target: FunctionTarget | None = None
        self.key: ApiKey | None = None
        self.domain: DomainPath | None = None
        self.signer = ""
        self.claims: Mapping[str, Any] | None = None
        self.trace = ""
        self.error: GatewayError | None = None
        self.span: Any = None
        self.is_replayed = False

    @property
    def caller(self) -> str:
        """The name of the consumer whose key was sent; empty if the stage's callers have no names."""
        return self.key.consumer.name if self.key is not None and self.key.consumer is not None else ""

    def context(self, account_id: str, times: RequestTimes) -> dict[str, Any]:
        """Return known values by `$context` name, for customized errors and the access log, not for the hot path."""
        stage, share, routed = self.stage, self.share, self.routed
        operation = None if routed is None else routed.operation
        fields = fields_of(self.request)
        domain_name, domain_prefix = domain_of(fields.known[HOST] or "")
        return {
            "accountId": account_id,
            "apiId": stage.settings.api if stage else "",
            "deploymentId": share.deployment_id if share else "",
            "domainName": domain_name,
            "domainPrefix": domain_prefix,
            "extendedRequestId": self.extended_request_id,
            "httpMethod": self.request.method,
            "identity.sourceIp": self.request.client,
            "identity.userAgent": fields.known[USER_AGENT] or "",
            "path": self.stage_path if self.domain is None else self.domain.sent,
            "protocol": "HTTP/1.1",
            "request.origin": fields.known[ORIGIN] or "",
            "requestId": self.request_id,
            "requestTime": times.at(self.now),
            "requestTimeEpoch": int(self.now * 1000),
            "resourceId": operation.resource_id if operation else "",
            "resourcePath": operation.resource if operation else "",
            "stage": stage.settings.name if stage else "",
        }


class Tracer(Protocol):
    """Traces exchanges."""

    def begin(self, exchange: Exchange, event: dict[str, Any]) -> dict[str, Any]:
        """Start an exchange's span; return the event with which its function is called."""
        ...


Observer = Callable[[Exchange, Response, float], None]
"""Called with an exchange, its response and its duration in seconds."""
