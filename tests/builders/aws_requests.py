"""Asynchronous requests of a deployment with moto: bucket, queues, the real handlers, and a stand-in for Lambda.

Only Lambda itself is simulated: `pump` receives messages like an event source mapping, calls the worker's handler and
deletes the messages that it did not report as failed; `invoke` calls the functions' handlers.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
from moto import mock_aws

from router_lambda.general.router import GeneralRouter
from router_lambda.requests.api import RequestPaths
from router_lambda.requests.worker import RequestWorker
from router_lambda.tasks import ThreadTasks, run_to_end
from tests.builders.general_router import PREFIX, VARIABLES, small_catalogue
from turnout.protocol.aws.events import LambdaHandler, make_answer
from turnout.protocol.aws_requests.connect import connect
from turnout.protocol.aws_requests.settings import (
    DEAD_VARIABLE,
    QUEUE_VARIABLE,
    SETTINGS_KEY,
    VISIBILITY_S,
    RequestSettings,
    StageRules,
    bucket_name,
    dead_letters_name,
    requests_name,
)
from turnout.protocol.aws_requests.store import RequestStore
from turnout.protocol.aws_requests.stored_requests import BUCKET_VARIABLE, StoredRequests
from turnout.protocol.routing.invocation import Answered

BUCKET = bucket_name(PREFIX, "123456789012", "eu-west-1")
HOOKS = "hooks.example.com"
ENVIRON = {BUCKET_VARIABLE: BUCKET, "AWS_REGION": "eu-west-1"}
IRIS = f"{PREFIX}_iris_v1"


class Killed(BaseException):
    """The end of a process in the middle of its work."""


class FunctionError(Exception):
    """A call without an answer; the message is the error of `Answered`."""


@dataclass
class Functions:
    """Handlers by the name of their function; records the calls."""

    handlers: dict[str, LambdaHandler] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    aliases: Collection[str] = ("live", "next", "live_async", "next_async")

    async def __call__(
        self, function: str, alias: str, event: Mapping[str, Any], *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        assert not asynchronous
        assert deadline_s > 0
        self.calls.append((function, alias))
        handler = self.handlers.get(function)
        if handler is None or alias not in self.aliases:
            return Answered(None, "unknown_function", "no such function")
        try:
            return Answered(handler(json.loads(json.dumps(event)), SimpleNamespace()))
        except FunctionError as error:
            return Answered(None, str(error), "no answer")


@dataclass
class Deployment:
    """One deployment."""

    store: RequestStore
    s3: Any
    sqs: Any
    queue: str
    dead: str
    functions: Functions
    offset: list[float]
    delivered: list[tuple[str, Any]] = field(default_factory=list)
    deliver: Callable[..., None] | None = None

    @property
    def now(self) -> float:
        return time.time() + self.offset[0]

    def pass_time(self, seconds: float) -> None:
        """Advance the time for the handlers and for SQS's delays and visibility timeouts."""
        self.offset[0] += seconds
        for queue in _queues(self.sqs):
            for message in queue._messages:
                message.delayed_until -= seconds * 1000
                message.visible_at -= seconds * 1000

    def add(self, function: str, handle: LambdaHandler, *, runs: bool = True) -> None:
        """Serve a handler with the wrapper of its entry point: a model's router does not run requests itself."""
        model, version = function.removeprefix(f"{PREFIX}_").split("_")
        stored = StoredRequests(ENVIRON, lambda _: self.store)
        running = stored.running(handle) if runs else handle
        self.functions.handlers[function] = stored.accepting(running, function, model, version.replace("router", ""))

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **context: Any
    ) -> SimpleNamespace:
        """Return API Gateway's answer: it calls the version's function or the general router."""
        parts = urlsplit(path)
        segments = parts.path.strip("/").split("/")
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        resource, parameters, function = parts.path, None, ""
        match segments:
            case ["models", "iris", "inference"]:
                function = IRIS
            case ["models", "iris", version, "inference"]:
                function = f"{PREFIX}_iris_{version}"
            case ["models", "triage" | "forest" as model, "inference"]:
                function = f"{PREFIX}_{model}_router"
            case ["requests", identifier, *rest]:
                resource, parameters = "/".join(["/requests/{id}", *rest]), {"id": identifier}
            case ["v2", *rest]:
                resource, parameters = "/v2/{proxy+}", {"proxy": "/".join(rest)}
        event = {
            "resource": resource,
            "path": parts.path,
            "httpMethod": method,
            "headers": {"Host": "api.example.com", "content-type": "application/json", **(headers or {})},
            "multiValueHeaders": {},
            "queryStringParameters": dict(parse_qsl(parts.query)) or None,
            "multiValueQueryStringParameters": None,
            "pathParameters": parameters,
            "stageVariables": VARIABLES,
            "requestContext": {
                "stage": "prod",
                "path": f"/prod{parts.path}",
                "identity": {"apiKey": "secret-key", "apiKeyId": "key1"},
                "requestId": f"r{next(_NUMBERS)}",
                **context,
            },
            **_encode(raw),
        }
        if function:
            answer = self.functions.handlers[function](event, SimpleNamespace())
        else:
            answer = run_to_end(self.router.answer(event, 1e12))
        return _read(answer)

    @property
    def router(self) -> GeneralRouter:
        catalogue = small_catalogue()
        return GeneralRouter(
            catalogue, self.functions, tasks=ThreadTasks(), requests=lambda: RequestPaths(self.store, catalogue)
        )

    def worker(self) -> RequestWorker:
        def deliver(address: str, body: bytes, secret: str, now: float, *, may_be_private: bool) -> None:
            assert not may_be_private
            assert now <= self.now
            assert len(secret) == 64
            if self.deliver is not None:
                self.deliver(address)
            self.delivered.append((address, json.loads(body)))

        return RequestWorker(self.store, self.functions, deliver=deliver)

    def receive(self) -> dict[str, Any] | None:
        """Return an event of one message; None if none is visible."""
        messages = self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=1, VisibilityTimeout=VISIBILITY_S
        ).get("Messages")
        if not messages:
            return None
        (entry,) = messages
        record = {"messageId": entry["MessageId"], "receiptHandle": entry["ReceiptHandle"], "body": entry["Body"]}
        return {"Records": [record]}

    def pump(self, most: int = 100) -> int:
        """Process all visible messages as Lambda does, and return how many there were."""
        for done in range(most):
            event = self.receive()
            if event is None:
                return done
            failed = self.worker().handle(event, 1e12)["batchItemFailures"]
            if not failed:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=event["Records"][0]["receiptHandle"])
        return most

    def finish(self, seconds: float = 3600.0, step: float = 30.0) -> None:
        """Process messages until none is left, and advance the time."""
        while seconds > 0:
            self.pump()
            if not any(queue._messages for queue in _queues(self.sqs) if queue.name == requests_name(PREFIX)):
                return
            self.pass_time(step)
            seconds -= step

    def submit(self, body: Any = None, headers: Mapping[str, str] | None = None, path: str = "") -> SimpleNamespace:
        """Return an accepted request to iris."""
        sent = {"prefer": "respond-async", **(headers or {})}
        answer = self.call("POST", path or "/models/iris/inference", {"x": 1} if body is None else body, sent)
        assert answer.status == 202, answer.json
        return answer

    def state(self, identifier: str) -> dict[str, Any]:
        answer = self.call("GET", f"/requests/{identifier}")
        assert answer.status == 200, answer.json
        described: dict[str, Any] = answer.json
        return described

    def dead_letters(self) -> list[Any]:
        (queue,) = (queue for queue in _queues(self.sqs) if queue.name == dead_letters_name(PREFIX))
        return [json.loads(message.body) for message in queue._messages]


def echo(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    """Answer with the received body."""
    from turnout.protocol.aws.events import read_event

    _, body = read_event(event)
    return make_answer(200, {"Content-Type": "application/json", "x-turnout-version": "v1"}, bytes(body))


@contextmanager
def aws_account() -> Iterator[RequestStore]:
    """Yield an account with the bucket and the queues, and the store that functions open there."""
    with mock_aws():
        s3, sqs = boto3.client("s3", region_name="eu-west-1"), boto3.client("sqs", region_name="eu-west-1")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        dead = sqs.create_queue(QueueName=dead_letters_name(PREFIX))["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        attributes = {
            "VisibilityTimeout": str(VISIBILITY_S),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5}),
        }
        queue = sqs.create_queue(QueueName=requests_name(PREFIX), Attributes=attributes)["QueueUrl"]
        yield connect({**ENVIRON, QUEUE_VARIABLE: queue, DEAD_VARIABLE: dead})


def deploy(opened: RequestStore, **rules: Any) -> Deployment:
    """Make a deployment in an empty account, whose stage `prod` accepts asynchronous requests."""
    s3, sqs = opened.bucket.client, opened.queues.client
    for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for queue in _queues(sqs):
        queue._messages.clear()
        queue.pending_messages.clear()
    offset = [0.0]
    store = RequestStore(opened.bucket, opened.queues, lambda: time.time() + offset[0])
    settings = RequestSettings({"prod": StageRules(callback_hosts=(HOOKS,), **rules)}, {IRIS: 30})
    s3.put_object(Bucket=BUCKET, Key=SETTINGS_KEY, Body=settings.to_json())
    made = Deployment(store, s3, sqs, opened.queues.address, opened.queues.dead_address, Functions(), offset)
    made.add(IRIS, echo)
    return made


def _queues(sqs: Any) -> list[Any]:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.sqs.models import sqs_backends

    return list(sqs_backends[DEFAULT_ACCOUNT_ID]["eu-west-1"].queues.values())


def _encode(raw: bytes | None) -> dict[str, Any]:
    from base64 import b64encode

    return {"body": b64encode(raw).decode() if raw else None, "isBase64Encoded": bool(raw)}


def _read(answer: Mapping[str, Any]) -> SimpleNamespace:
    from base64 import b64decode

    body = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    is_json = body and "json" in headers.get("content-type", "")
    return SimpleNamespace(
        status=answer["statusCode"], headers=headers, body=body, json=json.loads(body) if is_json else None
    )


_NUMBERS = itertools.count(1)
