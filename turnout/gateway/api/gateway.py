"""API Gateway's rules without sockets: takes a request and returns a response.

The order is AWS's: choose stage and share, match, authorize, throttle, validate, integrate.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.gateway.api.asynchronous import AsyncCall, AsyncRequests
from turnout.gateway.api.authorizing import CallerChecks, may_call_operation
from turnout.gateway.api.exchange import DomainPath, Exchange, Observer, Routed, Tracer
from turnout.gateway.api.fields import ACCEPT, CONTENT_TYPE, HOST, ORIGIN, PREFER, REPLAY, fields_of, parse_query
from turnout.gateway.api.identifiers import Identifiers, RequestTimes, trace_of_answer
from turnout.gateway.api.pages import answer_pages
from turnout.gateway.api.proxy_event import Endpoint, Events, is_too_large
from turnout.gateway.api.proxy_response import MalformedAnswerError, read_answer
from turnout.gateway.api.replay_token import is_replay_token
from turnout.gateway.functions.invocation import Invocable, Invocation
from turnout.gateway.rules.authorize import Access, ApiKey, ApiKeys
from turnout.gateway.rules.document import compile_document
from turnout.gateway.rules.errors import (
    ACCESS_DENIED,
    BAD_PATH,
    BROKEN,
    ERROR_OF_INVOCATION,
    EVENT_TOO_LARGE,
    FAILED,
    MISCONFIGURED,
    THROTTLED,
    TIMED_OUT,
    UNAUTHORIZED,
    UNKNOWN_ROUTE,
    UNKNOWN_STAGE,
    GatewayError,
)
from turnout.gateway.rules.gateway_responses import GatewayResponses
from turnout.gateway.rules.matching import ANY
from turnout.gateway.rules.shared_routes import SharedRoutes
from turnout.gateway.rules.stages import (
    BucketOf,
    DirectPath,
    FunctionTarget,
    Snapshot,
    Stages,
    StageSettings,
    own_bucket,
)
from turnout.gateway.rules.tokens import KeysNeededError, TokenKeys
from turnout.http_server.clients import domain_of
from turnout.http_server.messages import BodySink, Handler, Request, Response
from turnout.http_server.wire import TOO_LARGE_BODY, TOO_LARGE_HEADERS, TOO_LARGE_STATUS
from turnout.manifest.access import Domain
from turnout.plan.routes import HEALTH_PATHS, REQUEST_PATHS
from turnout.protocol.aws.limits import LARGEST_REQUEST_BYTES
from turnout.protocol.naming import TRANSFER_SEGMENT
from turnout.protocol.requests.preferences import asks_for_async
from turnout.protocol.requests.refusals import describe_unknown_target
from turnout.protocol.routing.choice_tables import FindTable, no_tables

_LOG = logging.getLogger("turnout.gateway")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NO_QUERY = (None, None)
_TRANSFERS = f"/{TRANSFER_SEGMENT}/"
_NO_RESPONSES = GatewayResponses({})


@dataclass(frozen=True, slots=True)
class RestApi:
    """One REST API: a document and the stages that serve it."""

    id: str
    document: Mapping[str, Any]
    stages: tuple[StageSettings, ...]


Query = tuple[dict[str, str] | None, dict[str, list[str]] | None]
"""The return type of `parse_query`."""

Front = Callable[[Request], Response | None]


class Gateway:
    """Answers requests as API Gateway would.

    Args:
        apis: the documents with their stages; stage names are unique across them.
        functions: calls the functions of integrations.
        default_stage: the stage for paths that name none, as with a custom domain mapped to it.
        endpoint: what events contain about this server.
        api_keys: stage name -> its keys; a stage that requires a key and has none rejects all requests.
        clock: seconds since 1970.
        monotonic: monotonic clock in seconds, for throttles and durations.
        random: returns a number from 0 up to, but not including, 1; called once per request to a stage with a canary.
        observers: called after each request, in this order.
        bucket_of: makes a throttle's counter, given the stage's name.
        services: first segment of a path -> handler of requests below it that match no route of a stage: the control
            plane and other services besides the API.
        replay_token: the header value of replayed requests; empty for none.
        front: answers browsers that request `/`; None, or an answer of None, leaves them to the stages.
        tracer: starts a span for each request that reaches a function, or None.
        checks: checks of signatures and tokens; without them, stages that require either are closed.
        domain: a host name that serves only the stages, below its base path; None for none.
        requests: accepts asynchronous requests; None accepts none.
        shared_routes: finds the functions behind routes that models share; None passes all such calls to the general
            router.
        tables: finds the tables of choices that stages name.

    Raises:
        DocumentError: a document uses an unsupported feature.
        ValueError: the stages contradict each other.
    """

    def __init__(
        self,
        apis: Iterable[RestApi],
        functions: Invocable,
        *,
        default_stage: str = "",
        endpoint: Endpoint | None = None,
        api_keys: Mapping[str, Iterable[ApiKey]] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
        observers: Sequence[Observer] = (),
        bucket_of: BucketOf = own_bucket,
        services: Mapping[str, Handler] | None = None,
        replay_token: str = "",
        front: Front | None = None,
        tracer: Tracer | None = None,
        checks: CallerChecks | None = None,
        domain: Domain | None = None,
        requests: AsyncRequests | None = None,
        shared_routes: SharedRoutes | None = None,
        tables: FindTable = no_tables,
    ) -> None:
        apis = tuple(apis)
        endpoint = endpoint or Endpoint()
        documents = {api.id: compile_document(api.id, api.document) for api in apis}
        keys = {stage: ApiKeys(values) for stage, values in (api_keys or {}).items()}
        self.stages = Stages(
            documents,
            (stage for api in apis for stage in api.stages),
            keys=keys,
            default=default_stage,
            bucket_of=bucket_of,
            tables=tables,
        )
        self.notes = tuple(note for document in documents.values() for note in document.notes) + tuple(
            f"stage {name!r} requires an API key and has none: every request is rejected"
            for name, stage in self.stages.snapshot.stages.items()
            if not stage.keys and any(operation.access is Access.API_KEY for operation in stage.document.operations)
        )
        self._checks = checks or CallerChecks()
        self._domain = domain
        self.notes += tuple(self._find_closed())
        self._functions = functions
        self._services = services or {}
        self._replay_token = replay_token
        self._front = front
        self._tracer = tracer
        self.requests = requests
        self._shared_routes = shared_routes
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._observers = tuple(observers)
        self._identifiers = Identifiers()
        self._times = RequestTimes()
        self._account_id = endpoint.account_id
        self._events = Events(endpoint, self._times)
        self._throttled_logged = float("-inf")

    def _find_closed(self) -> Iterator[str]:
        """Yield a sentence for each stage that cannot be called here."""
        for name, stage in self.stages.snapshot.stages.items():
            operations = stage.document.operations
            if not self._checks.signing_keys and any(operation.access is Access.IAM for operation in operations):
                yield f"stage {name!r} requires signatures and no access key is known: every request is rejected"
            issuers = {operation.tokens.issuer for operation in operations if operation.tokens is not None}
            for issuer in sorted(issuers - self._checks.tokens.keys()):
                yield f"stage {name!r} requires tokens of {issuer}, which cannot be checked: every request is rejected"

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request; no content of a request raises an exception."""
        snapshot = self.stages.snapshot
        domain = None if self._domain is None else _find_domain_path(request, self._domain)
        direct = snapshot.find(request.path if domain is None else domain.inner or "")
        if domain is None and direct is None:
            service = self._services.get(request.path[1:].partition("/")[0])
            if service is not None:
                return service(request)
            if self.requests is not None and _is_transfer(request):
                return self.requests.transfer(request)
            if request.path == "/" and self._front is not None and (page := self._front(request)) is not None:
                return page
        exchange = Exchange(request, self._identifiers.take(), self._clock(), self._monotonic())
        exchange.domain = domain
        try:
            response = self._answer(exchange, snapshot, direct)
        except Exception:
            _LOG.exception("request %s failed inside the gateway", exchange.request_id)
            response = self._refuse(exchange, BROKEN)
        if isinstance(response, Response):
            return self._finish(exchange, response)
        return self._wait(exchange, response)

    def admit(self, request: Request) -> Response | None:
        """Reject a request by its head, before its body is read; None if it may continue.

        A token taken from its stage's throttle is not taken again when the body has arrived.
        """
        snapshot = self.stages.snapshot
        if self.requests is not None and _is_transfer(request):
            return self.requests.admit_transfer(request)
        domain = None if self._domain is None else _find_domain_path(request, self._domain)
        direct = snapshot.find(request.path if domain is None else domain.inner or "")
        if domain is None and direct is None and request.path[1:].partition("/")[0] in self._services:
            return None
        exchange = Exchange(request, self._identifiers.take(), self._clock(), self._monotonic())
        exchange.domain = domain
        try:
            routed = self._route(exchange, snapshot, direct)
            error = routed if isinstance(routed, GatewayError) else self._admit(exchange, routed, is_whole=False)
        except KeysNeededError:
            return None  # the keys are read when the whole request has arrived
        except Exception:  # handling the whole request reports the error
            _LOG.exception("request %s failed inside the gateway", exchange.request_id)
            return None
        if error is not None:
            return self._finish(exchange, self._refuse(exchange, error))
        if isinstance(routed, Routed):
            request.admitted = routed.stage.settings.name
        return None

    def receive(self, request: Request) -> BodySink | None:
        """Return the receiver of a request's body, chosen by its head; None if it is kept in memory."""
        if self.requests is None or not _is_transfer(request):
            return None
        return self.requests.receive(request)

    def _answer(
        self, exchange: Exchange, snapshot: Snapshot, direct: DirectPath | None
    ) -> Response | Awaitable[Response]:
        """Handle everything up to the function's answer, and the answer if it is immediate."""
        if len(exchange.request.body) > LARGEST_REQUEST_BYTES:
            return Response(TOO_LARGE_STATUS, TOO_LARGE_HEADERS, TOO_LARGE_BODY)
        routed = self._route(exchange, snapshot, direct)
        if isinstance(routed, GatewayError):
            return self._refuse(exchange, routed)
        try:
            error = self._admit(exchange, routed, is_whole=True)
        except KeysNeededError as needed:
            return self._answer_with_keys(exchange, routed, needed.keys)
        if error is not None:
            return self._refuse(exchange, error)
        return self._invoke(exchange, routed)

    async def _answer_with_keys(self, exchange: Exchange, routed: Routed, keys: TokenKeys) -> Response:
        """Answer after an issuer's keys were read, in a thread, because that takes a while."""
        await self._checks.read_keys(keys)
        try:
            error = self._admit(exchange, routed, is_whole=True)
        except KeysNeededError:  # the issuer has not answered in time
            error = UNAUTHORIZED
        response = self._invoke(exchange, routed) if error is None else self._refuse(exchange, error)
        return response if isinstance(response, Response) else await response

    def _route(self, exchange: Exchange, snapshot: Snapshot, direct: DirectPath | None) -> Routed | GatewayError:
        """Find stage, share and operation."""
        request = exchange.request
        if direct is not None:
            match = direct[2].get(request.method)
            if match is not None:
                stage, exchange.path, _ = direct
                exchange.stage = stage
                share = exchange.share = stage.share(self._random)
                routed = exchange.routed = Routed(stage, share, *match, fields_of(request))
                return routed
        path = request.path
        if exchange.domain is not None:
            if exchange.domain.inner is None:
                return UNKNOWN_STAGE
            path = exchange.domain.inner
        if not path.startswith("/") or not (path.isascii() and path.isprintable()) or " " in path:
            return BAD_PATH
        if "%" in path and _BAD_ESCAPE.search(path) is not None:
            return BAD_PATH
        located, exchange.path, exchange.stage_path = snapshot.locate(path)
        if located is None:
            return UNKNOWN_STAGE
        exchange.stage = located
        share = exchange.share = located.share(self._random)
        match = located.document.routes.match(request.method, exchange.path)
        if match is None:
            return UNKNOWN_ROUTE
        if exchange.stage_path == path and exchange.domain is None:  # a domain's path may be a service's elsewhere
            snapshot.learn(path, located, exchange.path, request.method, match)
        routed = exchange.routed = Routed(located, share, *match, fields_of(request))
        return routed

    def _admit(self, exchange: Exchange, routed: Routed, *, is_whole: bool) -> GatewayError | None:
        """Authorize, then throttle; `is_whole` says whether the body has arrived.

        Raises:
            KeysNeededError: an issuer's keys must be read first.
        """
        stage, known = routed.stage, routed.fields.known
        sent = known[REPLAY]
        if sent is not None:
            exchange.is_replayed = is_replay_token(sent, self._replay_token)
        if routed.operation.access is not Access.OPEN:
            error = self._checks.authorize(exchange, routed, is_whole=is_whole)
            if error is not None:
                return error
        request, key = exchange.request, exchange.key
        if request.admitted == stage.settings.name:
            return None
        if request.method in {"GET", "HEAD"} and routed.operation.resource in HEALTH_PATHS:
            return None  # health is never throttled and takes no token
        if stage.bucket is not None and not stage.bucket.take(exchange.started):
            return THROTTLED
        if key is None or key.consumer is None:
            return None
        return stage.limits[key.id].take(exchange.started, exchange.now)

    def _invoke(self, exchange: Exchange, routed: Routed) -> Response | Awaitable[Response]:
        """Validate, make the event and call the function."""
        operation = routed.operation
        request = exchange.request
        query = parse_query(request.query) if request.query else _NO_QUERY
        if operation.validator is not None:
            fields = routed.fields
            error = operation.validator.check(
                fields.by_lower_name(), routed.parameters, query[0], fields.known[CONTENT_TYPE], request.body
            )
            if error is not None:
                return self._refuse(exchange, error)
        if operation.mock is not None:
            status, headers = operation.mock.answer(routed.fields.known[ORIGIN] or "")
            return Response(status, (*headers, *self._own_headers(exchange)), b"")
        if self.requests is not None and (
            operation.resource in REQUEST_PATHS or self._is_asynchronous(self.requests, routed)
        ):
            later = self._take_later(self.requests, exchange, routed, query)
            return answer_pages(request, routed.share.variables or {}, later)
        target = exchange.target = routed.share.targets[operation.index]
        if target.problem:
            return self._refuse_target(exchange, routed, target)
        event = self._events.build(exchange, routed, query)
        if self._shared_routes is not None:
            target, event = self._shorten(self._shared_routes, exchange, target, event)
        if is_too_large(event, request.body):
            return self._refuse(exchange, EVENT_TOO_LARGE)
        if self._tracer is not None:
            event = self._tracer.begin(exchange, event)
        invocation = self._functions.invoke(target.function, target.alias, event, target.timeout_s)
        if isinstance(invocation, Invocation):
            return self._respond(exchange, routed, target, invocation)
        return self._wait_for_function(exchange, routed, target, invocation)

    @staticmethod
    def _shorten(
        shared: SharedRoutes, exchange: Exchange, target: FunctionTarget, event: dict[str, Any]
    ) -> tuple[FunctionTarget, dict[str, Any]]:
        """Return the function behind a route that models share, and its event; both unchanged for other routes."""
        routed = exchange.routed
        assert routed is not None
        behind = shared.find(routed.operation.resource, routed.parameters, routed.share, target)
        if behind is None:
            return target, event
        exchange.target = behind.target
        event["resource"], event["pathParameters"] = behind.resource, None
        return behind.target, event

    def _refuse_target(self, exchange: Exchange, routed: Routed, target: FunctionTarget) -> Response:
        _LOG.error("%s %s: %s", routed.operation.method, routed.operation.resource, target.problem)
        return self._refuse(exchange, MISCONFIGURED)

    def _is_asynchronous(self, requests: AsyncRequests, routed: Routed) -> bool:
        """Whether a request asks for an asynchronous inference and its stage accepts it."""
        prefer = routed.fields.known[PREFER]
        if prefer is None or not asks_for_async(prefer):
            return False
        path = (routed.parameters or {}).get("proxy", routed.operation.resource)
        is_inference = routed.operation.method in {"POST", ANY} and path.endswith(("/inference", "/infer"))
        return is_inference and requests.accepts(routed.stage.settings.name)

    def _take_later(
        self, requests: AsyncRequests, exchange: Exchange, routed: Routed, parameters: Query
    ) -> Response | Awaitable[Response]:
        """Answer requests about asynchronous requests: `PUT` makes one of the inference in its query."""
        query = parameters[0] or {}
        if routed.operation.resource not in REQUEST_PATHS:
            return self._accept(requests, exchange, routed, parameters)
        if exchange.request.method != "PUT" or not requests.accepts(routed.stage.settings.name):
            return requests.answer(exchange, routed)
        model, version = query.get("model", ""), query.get("version", "")
        if not model:
            message = "the query has no `model`: PUT /requests/ID?model=NAME, and `&version=NAME` for one version"
            return requests.refuse(exchange, "INVALID_TARGET", message)
        path = f"/models/{model}/{version}/inference" if version else f"/models/{model}/inference"
        match = routed.stage.document.routes.match("POST", path)
        if match is None or "/" in model + version:  # `model=iris/v1` is not a name
            return requests.refuse(exchange, "INVALID_TARGET", describe_unknown_target(model, version))
        exchange.path = path
        called = Routed(routed.stage, routed.share, match[0], match[1], routed.fields)
        if not may_call_operation(exchange, called):
            return self._refuse(exchange, ACCESS_DENIED)
        return self._accept(requests, exchange, called, _NO_QUERY, (routed.parameters or {}).get("id", ""))

    def _accept(
        self, requests: AsyncRequests, exchange: Exchange, routed: Routed, query: Query, identifier: str = ""
    ) -> Response | Awaitable[Response]:
        """Have a call stored, to be made later, with the current share, variables and function."""
        target = routed.share.targets[routed.operation.index]
        if target.problem:
            return self._refuse_target(exchange, routed, target)
        event = self._events.build(exchange, routed, query)
        event["httpMethod"] = event["requestContext"]["httpMethod"] = "POST"
        return requests.accept(AsyncCall(exchange, routed, target, event, exchange.path, identifier))

    async def _wait(self, exchange: Exchange, pending: Awaitable[Response]) -> Response:
        """Return the response of a function that does not answer immediately."""
        try:
            response = await pending
        except Exception:
            _LOG.exception("request %s failed inside the gateway", exchange.request_id)
            response = self._refuse(exchange, BROKEN)
        except asyncio.CancelledError:
            # The client hung up: the log records 499, as web servers do, and the response is not sent.
            self._finish(exchange, Response(499))
            raise
        return self._finish(exchange, response)

    async def _wait_for_function(
        self, exchange: Exchange, routed: Routed, target: FunctionTarget, pending: Awaitable[Invocation]
    ) -> Response:
        deadline = asyncio.timeout(target.timeout_s)
        try:
            async with deadline:
                invocation = await pending
        except TimeoutError:
            if not deadline.expired():
                raise
            return self._refuse(exchange, TIMED_OUT)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The function's run was canceled, not this request.
            return self._refuse(exchange, FAILED)
        return self._respond(exchange, routed, target, invocation)

    def _respond(self, exchange: Exchange, routed: Routed, target: FunctionTarget, invocation: Invocation) -> Response:
        """Return the response made from a function's answer."""
        if invocation.error is not None:
            if invocation.error != "throttled" or self._is_first_throttled(exchange.started):
                _LOG.error("%s: %s: %s", target.function, invocation.error, invocation.message)
            return self._refuse(exchange, ERROR_OF_INVOCATION.get(invocation.error, FAILED))
        binary = routed.stage.document.binary_media_types
        try:
            status, headers, body = read_answer(invocation.answer, decodes_base64=routed.fields.known[ACCEPT] in binary)
        except MalformedAnswerError as error:
            _LOG.error("%s: malformed answer: %s", target.function, error)
            return self._refuse(exchange, FAILED)
        trace = ("X-Amzn-Trace-Id", trace_of_answer(exchange.trace, exchange.taken))
        return Response(status, (*headers, *self._own_headers(exchange), trace), body)

    @staticmethod
    def _own_headers(exchange: Exchange) -> tuple[tuple[str, str], ...]:
        return ("x-amzn-RequestId", exchange.request_id), ("x-amz-apigw-id", exchange.extended_request_id)

    def _is_first_throttled(self, now: float) -> bool:
        """Whether no throttled call was logged in the last second: an overloaded function has thousands."""
        if now - self._throttled_logged < 1.0:
            return False
        self._throttled_logged = now
        return True

    def _refuse(self, exchange: Exchange, error: GatewayError) -> Response:
        """Return the gateway's own error response, in the document's wording if it has one."""
        exchange.error = error
        stage, share = exchange.stage, exchange.share
        responses = stage.document.gateway_responses if stage is not None else _NO_RESPONSES
        status, headers, body = responses.render(
            error, exchange.context(self._account_id, self._times), share.variables if share is not None else None
        )
        return Response(
            status,
            (
                ("Content-Type", "application/json"),
                *headers,
                ("x-amzn-RequestId", exchange.request_id),
                ("x-amzn-ErrorType", error.code),
                ("x-amz-apigw-id", exchange.extended_request_id),
            ),
            body,
        )

    def _finish(self, exchange: Exchange, response: Response) -> Response:
        if self._observers:
            duration_s = self._monotonic() - exchange.started
            for observe in self._observers:
                try:
                    observe(exchange, response, duration_s)
                except Exception:
                    _LOG.exception("request %s could not be observed", exchange.request_id)
        return response


def _is_transfer(request: Request) -> bool:
    """Whether a request is for a signed address, which belongs to no stage and is the same under every host name."""
    return request.path.startswith(_TRANSFERS)


def _find_domain_path(request: Request, domain: Domain) -> DomainPath | None:
    """Return the path of a request to the domain's host name, which serves only the stages; None for other hosts."""
    host = fields_of(request).known[HOST]
    if host is None or domain_of(host)[0].lower() != domain.name or _is_transfer(request):
        return None
    return DomainPath(request.path, domain.strip(request.path))
