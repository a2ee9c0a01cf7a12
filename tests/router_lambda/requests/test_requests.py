"""Asynchronous requests on AWS: the real handlers with moto's S3 and SQS."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests as http
from botocore.exceptions import ClientError

from router_lambda.router import Router
from router_lambda.tasks import ThreadTasks, run_to_end
from tests.builders.aws_requests import (
    BUCKET,
    HOOKS,
    IRIS,
    Deployment,
    FunctionError,
    Killed,
    aws_account,
    deploy,
    echo,
)
from tests.builders.general_router import PREFIX, VARIABLES
from turnout.protocol.aws.events import make_answer
from turnout.protocol.aws_requests.bucket import RequestBucket
from turnout.protocol.aws_requests.messages import Queues, RequestMessage
from turnout.protocol.aws_requests.settings import GRACE_S, VISIBILITY_S
from turnout.protocol.aws_requests.store import LOST_S, RequestStore
from turnout.protocol.requests.uploads import PART_BYTES, UPLOAD_S
from turnout.protocol.requests.webhooks import MOST_TRIES, CallbackError, webhook_secret
from turnout.protocol.routing.pooled import find_aim
from turnout.protocol.routing.route_table import ModelRoute, RouteTable, VersionRoute

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def account() -> Iterator[RequestStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
            patch.setenv(f"AWS_{name}", value)
        with aws_account() as opened:
            yield opened


@pytest.fixture
def made(account: RequestStore) -> Deployment:
    return deploy(account, max_attempts=3, time_to_live_s=7200)


def failing(_event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    raise FunctionError("failed")


def test_a_request_is_accepted_run_and_answered(made: Deployment) -> None:
    accepted = made.submit({"x": [1, 2]})
    identifier = accepted.json["id"]
    assert accepted.headers["location"] == f"/prod/requests/{identifier}"
    assert accepted.headers["retry-after"] == "1"
    assert accepted.headers["preference-applied"] == "respond-async"
    assert accepted.json["state"] == "queued"
    assert accepted.json["model"] == "iris"
    assert made.call("GET", f"/requests/{identifier}/answer").json["code"] == "NOT_DONE"
    assert made.functions.calls == []
    assert made.pump() == 1
    state = made.state(identifier)
    assert (state["state"], state["version"], state["share"], state["attempts"]) == ("done", "v1", "baseline", 1)
    body = json.dumps({"x": [1, 2]}).encode()
    assert state["answer"] == {
        "address": f"/prod/requests/{identifier}/answer",
        "status": 200,
        "content_type": "application/json",
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    answer = made.call("GET", state["answer"]["address"].removeprefix("/prod"))
    assert (answer.status, answer.body, answer.headers["x-turnout-version"]) == (200, body, "v1")
    assert made.functions.calls == [(IRIS, "live_async")]


def test_no_key_or_token_is_stored(made: Deployment) -> None:
    headers = {"x-api-key": "secret-key", "authorization": "Bearer secret-key", "cookie": "secret-key"}
    made.submit(headers=headers)
    listed = made.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    stored = b"".join(made.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed)
    assert b"secret-key" not in stored
    assert b"key1" in stored


def test_stage_without_async_answers_synchronously_and_has_no_requests(made: Deployment) -> None:
    answer = made.call("POST", "/models/iris/inference", {"x": 1}, {"prefer": "respond-async"}, stage="dev")
    assert (answer.status, answer.json) == (200, {"x": 1})
    refused = made.call("GET", "/requests/r1", stage="dev")
    assert (refused.status, refused.json["code"]) == (404, "ASYNC_NOT_ENABLED")


def test_call_forwarded_by_a_router_is_answered_synchronously(made: Deployment) -> None:
    event = {"headers": {"prefer": "respond-async"}, "httpMethod": "POST", "requestContext": {"stage": "prod"}}
    handed = {**event, "resource": "/models/iris/inference", "turnout": {"hop": 1}, "body": "{}"}
    assert made.functions.handlers[IRIS]({**handed, "isBase64Encoded": False}, None)["statusCode"] == 200


@pytest.mark.parametrize("path", ["/v2/models/iris/infer", "/v2/models/iris/versions/v1/infer"])
def test_paths_of_the_open_inference_protocol_accept_requests(made: Deployment, path: str) -> None:
    identifier = made.submit(path=path).json["id"]
    made.pump()
    assert made.state(identifier)["state"] == "done"
    assert made.functions.calls == [(IRIS, "live_async")]


def test_message_delivered_twice_runs_once(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    event = made.receive()
    assert event is not None
    assert made.worker().handle(event, 1e12) == {"batchItemFailures": []}
    before = made.state(identifier)
    assert made.worker().handle(event, 1e12) == {"batchItemFailures": []}
    assert made.functions.calls == [(IRIS, "live_async")]
    assert made.state(identifier) == before


def test_duplicate_of_a_running_request_waits(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    event = made.receive()
    assert event is not None
    during: list[Any] = []

    def handle(called: Mapping[str, Any], context: Any) -> dict[str, Any]:
        during.append(made.worker().handle(event, 1e12)["batchItemFailures"])
        during.append(made.state(identifier)["state"])
        return echo(called, context)

    made.add(IRIS, handle)
    made.worker().handle(event, 1e12)
    assert during == [[{"itemIdentifier": event["Records"][0]["messageId"]}], "running"]
    assert made.state(identifier)["state"] == "done"
    assert len(made.functions.calls) == 1


class Mortal:
    """Kills the process after a number of operations, before or after the last one takes effect."""

    def __init__(self, operations: int, *, takes_effect: bool) -> None:
        self.left = operations
        self.takes_effect = takes_effect

    def wrap(self, client: Any) -> Any:
        mortal = self

        class Client:
            def __getattr__(self, name: str) -> Any:
                real = getattr(client, name)

                def call(**arguments: Any) -> Any:
                    mortal.left -= 1
                    if mortal.left < 0 or (mortal.left == 0 and not mortal.takes_effect):
                        raise Killed
                    result = real(**arguments)
                    if mortal.left == 0:
                        raise Killed
                    return result

                return call if name.islower() and name != "meta" else real

        return Client()


def with_mortal(made: Deployment, mortal: Mortal) -> Deployment:
    bucket = RequestBucket(mortal.wrap(made.s3), BUCKET)
    store = RequestStore(bucket, Queues(mortal.wrap(made.sqs), made.queue, made.dead), lambda: made.now)
    return replace(made, store=store)


@pytest.mark.parametrize("takes_effect", [False, True])
def test_worker_killed_at_any_operation_neither_loses_nor_repeats_a_request(
    made: Deployment, takes_effect: bool
) -> None:
    """It is killed before or after each operation on S3 and SQS, including the writes of the answer and of the
    state.
    """
    made.deliver = None
    operations = kills = 0
    while True:
        operations += 1
        made.functions.calls.clear()
        made.delivered.clear()
        attempts: list[int] = []

        def handle(event: Mapping[str, Any], context: Any, seen: list[int] = attempts) -> dict[str, Any]:
            seen.append(1)
            return failing(event, context) if len(seen) == 1 else echo(event, context)

        made.add(IRIS, handle)
        identifier = made.submit(headers={"x-turnout-callback": f"https://{HOOKS}/done"}).json["id"]
        event = made.receive()
        assert event is not None
        mortal = Mortal(operations, takes_effect=takes_effect)
        was_killed = False
        try:
            doomed = with_mortal(made, mortal)
            failed = doomed.worker().handle(event, 1e12)["batchItemFailures"]
            if not failed:
                made.sqs.delete_message(QueueUrl=made.queue, ReceiptHandle=event["Records"][0]["receiptHandle"])
        except Killed:
            was_killed = True
            kills += 1
        made.pass_time(VISIBILITY_S)
        made.finish()
        state = made.state(identifier)
        assert (state["state"], state["callback"]) == ("done", "delivered"), (operations, state)
        answer = made.call("GET", f"/requests/{identifier}/answer")
        assert answer.body == b'{"x": 1}'
        assert {sent["id"] for _, sent in made.delivered} == {identifier}
        assert all(sent["answer"] == state["answer"] for _, sent in made.delivered)
        made.s3.delete_object(Bucket=BUCKET, Key=f"requests/prod/{identifier}.json")
        if not was_killed:
            assert len(made.delivered) == 1
            assert len(attempts) == 2
            break
    assert kills > 5


def test_answer_stored_before_the_worker_ended_is_not_recomputed(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    event = made.receive()
    assert event is not None

    def handle(called: Mapping[str, Any], context: Any) -> dict[str, Any]:
        return echo(called, context)

    made.add(IRIS, handle)
    wrapped = made.functions.handlers[IRIS]

    def dies(called: Mapping[str, Any], context: Any) -> dict[str, Any]:
        wrapped(called, context)
        raise Killed

    made.functions.handlers[IRIS] = dies
    with pytest.raises(Killed):
        made.worker().handle(event, 1e12)
    made.pass_time(30 + GRACE_S + 1)
    made.pump()
    assert made.state(identifier)["state"] == "done"
    assert len(made.functions.calls) == 1


@pytest.mark.parametrize("takes_effect", [False, True])
def test_put_killed_at_any_operation_can_be_repeated_and_runs_once(made: Deployment, takes_effect: bool) -> None:
    for operations in range(1, 8):
        made.functions.calls.clear()
        identifier = f"order-{operations}"
        mortal = Mortal(operations, takes_effect=takes_effect)
        with contextlib.suppress(Killed):
            with_mortal(made, mortal).call("PUT", f"/requests/{identifier}?model=iris", {"x": operations})
        again = made.call("PUT", f"/requests/{identifier}?model=iris", {"x": operations})
        assert again.status in {200, 202}
        assert again.json["id"] == identifier
        made.finish()
        assert made.state(identifier)["state"] == "done"
        assert len(made.functions.calls) == 1


def test_put_is_idempotent(made: Deployment) -> None:
    path = "/requests/order-7?model=iris"
    first = made.call("PUT", path, {"x": 1})
    assert (first.status, first.headers["location"]) == (202, "/prod/requests/order-7")
    assert made.call("PUT", path, {"x": 1}).status == 200
    made.finish()
    again = made.call("PUT", path, {"x": 1})
    assert (again.status, again.json["state"]) == (200, "done")
    assert len(made.functions.calls) == 1
    for changed in ({"x": 2}, None):
        refused = made.call("PUT", path, changed)
        assert (refused.status, refused.json["code"]) == (409, "IDENTIFIER_TAKEN")
    refused = made.call("PUT", path + "&version=v1", {"x": 1})
    assert refused.json["code"] == "IDENTIFIER_TAKEN"


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/requests/order-1", "INVALID_TARGET", "the query has no `model`"),
        ("/requests/order-1?model=rose", "INVALID_TARGET", "there is no model rose"),
        ("/requests/order-1?model=iris&version=v9", "INVALID_TARGET", "there is no version v9 of iris"),
        ("/requests/-order?model=iris", "INVALID_IDENTIFIER", "the identifier: expected"),
    ],
)
def test_put_without_a_target_is_rejected(made: Deployment, path: str, code: str, message: str) -> None:
    answer = made.call("PUT", path, {"x": 1})
    assert (answer.status, answer.json["code"]) == (400, code)
    assert answer.json["error"].startswith(message)
    assert made.pump() == 0


def test_put_of_a_routed_model_runs_in_its_router(made: Deployment) -> None:
    router = f"{PREFIX}_forest_router"
    made.add(router, echo)
    answer = made.call("PUT", "/requests/order-1?model=forest", {"x": 1})
    assert (answer.status, answer.json["version"]) == (202, "")
    made.finish()
    assert made.functions.calls == [(router, "live_async")]
    assert made.state("order-1")["version"] == "v1"


def test_router_chooses_once_and_the_version_stores_the_answer(made: Deployment) -> None:
    route = ModelRoute("forest", {"v1": VersionRoute(15), "v2": VersionRoute(15)})
    table = RouteTable("forest", PREFIX, {"forest": route})
    router = Router(table, made.functions, tasks=ThreadTasks())
    name = f"{PREFIX}_forest_router"
    made.add(name, lambda event, _: run_to_end(router.answer(event, 1e12)), runs=False)
    seen: list[str] = []
    for version in ("v1", "v2"):

        def handle(event: Mapping[str, Any], context: Any, version: str = version) -> dict[str, Any]:
            seen.append(version)
            if len(seen) % 3:
                raise FunctionError("failed")
            answer = echo(event, context)
            return {**answer, "headers": {**answer["headers"], "x-turnout-version": version}}

        made.add(f"{PREFIX}_forest_{version}", handle)
    for _ in range(6):
        seen.clear()
        identifier = made.submit({"x": 3}, path="/models/forest/inference").json["id"]
        made.finish(step=1.0)
        state = made.state(identifier)
        assert (state["state"], state["attempts"]) == ("done", 3)
        assert len(seen) == 3
        assert {state["version"]} == set(seen)
        assert made.call("GET", f"/requests/{identifier}/answer").json == {"x": 3}


@pytest.mark.parametrize("version", ["", "v1"])
def test_run_event_contains_the_version_of_a_pool(made: Deployment, version: str) -> None:
    aims: list[tuple[str, str]] = []

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        aims.append(find_aim(event))
        return echo(event, context)

    made.add(IRIS, handle)
    made.call("PUT", f"/requests/order-1?model=iris{version and f'&version={version}'}", {"x": 1})
    made.submit(path="/v2/models/iris/infer")
    made.finish()
    assert aims == [("iris", "v1")] * 2


def test_request_is_invisible_to_other_callers(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    other = {"identity": {"apiKeyId": "key2"}}
    for method, path in (("GET", ""), ("GET", "/answer"), ("DELETE", "")):
        answer = made.call(method, f"/requests/{identifier}{path}", **other)
        assert (answer.status, answer.json["code"]) == (404, "UNKNOWN_REQUEST")
    assert made.call("PUT", f"/requests/{identifier}?model=iris", {"x": 1}, **other).status == 409
    assert made.state(identifier)["state"] == "queued"


def test_request_that_has_not_started_can_be_canceled(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    for _ in range(2):
        answer = made.call("DELETE", f"/requests/{identifier}")
        assert (answer.status, answer.json["state"]) == (200, "canceled")
    made.finish()
    assert made.functions.calls == []
    other = made.submit().json["id"]
    made.finish()
    refused = made.call("DELETE", f"/requests/{other}")
    assert (refused.status, refused.json["code"]) == (409, "HAS_BEGUN")


def test_request_that_waited_too_long_expires_and_is_deleted(made: Deployment) -> None:
    identifier, unseen = made.submit().json["id"], made.submit().json["id"]
    made.pass_time(7201)
    state = made.state(identifier)
    assert (state["state"], state["error"]["code"]) == ("expired", "EXPIRED")
    made.finish()
    assert made.state(unseen)["state"] == "expired"
    assert made.functions.calls == []
    assert made.dead_letters() == []
    made.pass_time(7201)
    assert made.call("GET", f"/requests/{identifier}").status == 404
    assert made.call("PUT", f"/requests/{identifier}?model=iris", {"x": 1}).status == 202


def test_request_that_always_fails_becomes_a_dead_letter_and_can_be_redriven(made: Deployment) -> None:
    made.add(IRIS, failing)
    identifier = made.submit().json["id"]
    starts: list[float] = []
    while len(starts) < 3:
        count = len(made.functions.calls)
        made.pump()
        if len(made.functions.calls) > count:
            starts.append(made.now)
        made.pass_time(0.5)
    assert len(made.functions.calls) == 3
    first, second, third = starts
    assert 1 <= second - first < 3
    assert 2 <= third - second < 4
    state = made.state(identifier)
    assert (state["state"], state["attempts"]) == ("failed", 3)
    assert state["error"]["code"] == "FUNCTION_FAILED"
    assert state["error"]["status"] == 502
    assert made.call("GET", f"/requests/{identifier}/answer").status == 502
    assert made.dead_letters() == [{"stage": "prod", "id": identifier}]
    (listed,) = made.store.list_requests(wanted=("failed",))
    assert listed.id == identifier
    made.add(IRIS, echo)
    made.store.queues.bury(RequestMessage("prod", "another"))
    assert made.store.redrive("prod", identifier) is not None
    assert made.store.queues.exhume(lambda message: message.id == identifier) == 1
    assert made.dead_letters() == [{"stage": "prod", "id": "another"}]
    made.finish()
    assert made.state(identifier)["state"] == "done"


def test_rejected_request_fails_at_once_without_a_dead_letter(made: Deployment) -> None:
    made.add(IRIS, lambda *_: make_answer(422, JSON, b'{"error": "no", "code": "REFUSED", "details": {"x": 1}}'))
    identifier = made.submit().json["id"]
    made.finish()
    state = made.state(identifier)
    assert (state["state"], state["attempts"]) == ("failed", 1)
    assert state["error"] == {"error": "no", "code": "REFUSED", "details": {"x": 1}, "status": 422}
    assert made.dead_letters() == []


def test_throttled_run_is_not_counted(made: Deployment) -> None:
    left = [1] * 5

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if left:
            left.pop()
            raise FunctionError("throttled")
        return echo(event, context)

    made.add(IRIS, handle)
    identifier = made.submit().json["id"]
    made.finish()
    assert (made.state(identifier)["state"], made.state(identifier)["attempts"]) == ("done", 1)
    assert len(made.functions.calls) == 6


def test_lambda_does_not_take_retries_for_an_endless_loop(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: dict[str, list[bool]] = {"SendMessage": [], "DeleteMessage": []}

    def record(request: Any, event_name: str, **_: object) -> None:
        traced[event_name.rpartition(".")[2]].append("X-Amzn-Trace-Id" in request.headers)

    def throttled(_event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
        raise FunctionError("throttled")

    made.add(IRIS, throttled)
    events = made.store.queues.client.meta.events
    for operation in traced:
        events.register_last(f"before-sign.sqs.{operation}", record)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "worker")  # then botocore adds the header
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=8:a1b2c3d4:16")
    try:
        identifier = made.submit().json["id"]
        for _ in range(20):
            made.pump()
            made.pass_time(11)
    finally:
        for operation in traced:
            events.unregister(f"before-sign.sqs.{operation}", record)
    assert (made.state(identifier)["state"], made.state(identifier)["attempts"]) == ("queued", 0)
    assert traced["SendMessage"] == [False] * 21
    assert traced["DeleteMessage"] == [True] * 20


def test_request_to_a_removed_version_fails_with_the_reason(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    made.functions.handlers.clear()
    made.finish()
    assert made.state(identifier)["error"]["code"] == "UNKNOWN_VERSION"
    assert made.dead_letters() == [{"stage": "prod", "id": identifier}]


def test_request_of_an_ended_release_canary_runs_on_the_live_alias(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    stored = made.store.read("prod", identifier)
    assert stored is not None
    made.store.write(stored, replace(stored.record, alias="next"))
    made.functions.aliases = {"live", "live_async"}
    made.finish()
    assert made.state(identifier)["state"] == "done"
    assert made.functions.calls == [(IRIS, "next_async"), (IRIS, "live_async")]


def test_run_of_a_router_calls_versions_by_the_alias_of_asynchronous_runs(made: Deployment) -> None:
    received: list[dict[str, Any]] = []

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        received.append(event["stageVariables"])
        return echo(event, context)

    made.add(f"{PREFIX}_forest_router", handle, runs=False)
    identifier = made.submit(path="/models/forest/inference").json["id"]
    made.finish()
    assert made.state(identifier)["state"] == "done"
    assert made.functions.calls == [(f"{PREFIX}_forest_router", "live_async")]
    assert received == [{**VARIABLES, "alias": "live_async"}]


def test_run_that_outlives_its_worker_is_finished_by_the_next_delivery(made: Deployment) -> None:
    def outlives(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        serve(event, context)
        raise FunctionError("timed_out")

    serve = made.functions.handlers[IRIS]
    identifier = made.submit().json["id"]
    made.functions.handlers[IRIS] = outlives
    made.pump()
    assert made.state(identifier)["state"] == "running"
    made.finish()
    assert (made.state(identifier)["state"], len(made.functions.calls)) == ("done", 1)


def test_body_that_does_not_fit_on_the_disk_fails_with_the_remedy(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    stored = made.store.read("prod", identifier)
    assert stored is not None
    body = replace(stored.record.body, size=2**60)
    made.store.write(stored, replace(stored.record, body=body))
    made.finish()
    error = made.state(identifier)["error"]
    assert (error["code"], error["status"]) == ("BODY_TOO_LARGE", 413)
    assert "raise `ephemeral_storage_mb`" in error["error"]


@pytest.mark.parametrize("conflicts", [1, 5])
def test_conflicting_write_is_repeated(made: Deployment, conflicts: int) -> None:
    class Client:
        left = conflicts

        def put_object(self, **arguments: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": ""}}, "PutObject")
            return made.s3.put_object(**arguments)

    bucket = RequestBucket(Client(), BUCKET)
    assert bucket.create("requests/prod/one.json", b"{}")
    assert not bucket.create("requests/prod/one.json", b"{}")


def test_messages_that_crash_every_worker_become_dead_letters(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    for _ in range(6):
        made.receive()  # and the worker ends
        made.pass_time(VISIBILITY_S)
    assert made.dead_letters() == [{"stage": "prod", "id": identifier}]
    made.offset[0] = 0.0  # it still waits, as if only minutes had passed
    assert made.state(identifier)["state"] == "queued"
    assert made.store.revive() == 1
    assert made.dead_letters() == []
    made.finish()
    assert made.state(identifier)["state"] == "done"


def test_running_request_with_lost_messages_fails(made: Deployment) -> None:
    identifier = made.submit().json["id"]
    event = made.receive()
    assert event is not None

    def dies(*_: Any) -> dict[str, Any]:
        raise Killed

    made.add(IRIS, dies)
    with pytest.raises(Killed):
        made.worker().handle(event, 1e12)
    made.sqs.purge_queue(QueueUrl=made.queue)
    made.pass_time(LOST_S - 1)
    assert made.state(identifier)["state"] == "running"
    made.pass_time(2)
    assert made.state(identifier)["error"]["code"] == "PROCESS_ENDED"


def test_invalid_message_is_redelivered_until_it_is_a_dead_letter(made: Deployment) -> None:
    made.sqs.send_message(QueueUrl=made.queue, MessageBody="{")
    event = made.receive()
    assert event is not None
    assert made.worker().handle(event, 1e12)["batchItemFailures"] == [
        {"itemIdentifier": event["Records"][0]["messageId"]}
    ]


def announce(made: Deployment, body: bytes, **fields: Any) -> dict[str, Any]:
    answer = made.call("POST", "/uploads", {"bytes": len(body), **fields})
    assert answer.status == 201, answer.json
    described: dict[str, Any] = answer.json
    return described


def send_parts(upload: Mapping[str, Any], body: bytes) -> None:
    for part in upload["parts"]:
        piece = body[part["first_byte"] : part["first_byte"] + part["bytes"]]
        assert http.put(part["address"], piece, timeout=60).status_code == 200


def test_upload_becomes_the_body(made: Deployment) -> None:
    body = bytes(5_000_000) + b"tail"  # more than an event holds
    upload = announce(made, body, sha256=hashlib.sha256(body).hexdigest())
    early = made.call(
        "POST", "/models/iris/inference", None, {"prefer": "respond-async", "x-turnout-upload": upload["id"]}
    )
    assert (early.status, early.json["code"]) == (409, "UPLOAD_INCOMPLETE")
    send_parts(upload, body)
    lengths: list[int] = []

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        answer = echo(event, context)
        lengths.append(len(answer["body"]))
        return make_answer(200, JSON, b"{}")

    made.add(IRIS, handle)
    first = made.call("PUT", "/requests/big?model=iris", None, {"x-turnout-upload": upload["id"]})
    assert first.status == 202
    again = made.call("PUT", "/requests/big?model=iris", None, {"x-turnout-upload": upload["id"]})
    assert again.status == 200
    taken = made.call("PUT", "/requests/other?model=iris", None, {"x-turnout-upload": upload["id"]})
    assert (taken.status, taken.json["code"]) == (404, "UNKNOWN_UPLOAD")
    made.finish()
    assert made.state("big")["state"] == "done"
    assert lengths == [len(body)]


def test_body_is_sent_in_parts_of_64_mb(made: Deployment) -> None:
    upload = made.call("POST", "/uploads", {"bytes": PART_BYTES + 4}).json
    assert [(part["first_byte"], part["bytes"]) for part in upload["parts"]] == [(0, PART_BYTES), (PART_BYTES, 4)]
    assert len({part["address"] for part in upload["parts"]}) == 2
    assert all("X-Amz-SignedHeaders=content-length%3Bhost" in part["address"] for part in upload["parts"]), "sized"
    bucket, parts = made.store.bucket, (bytes(5 * 1024 * 1024), b"tail")  # S3's smallest part but the last
    identifier = bucket.begin_parts("body")
    for address, part in zip(bucket.sign_parts("body", identifier, [*map(len, parts)], 60), parts, strict=True):
        assert http.put(address, part, timeout=60).status_code == 200
    arrived = bucket.list_parts("body", identifier)
    assert arrived is not None
    bucket.join_parts("body", identifier, [arrived[number][1] for number in range(2)])
    joined = bucket.read("body")
    assert joined is not None
    assert joined[0] == b"".join(parts)


def test_upload_with_a_wrong_digest_fails_before_the_model_runs(made: Deployment) -> None:
    upload = announce(made, b"abc", sha256="0" * 64)
    send_parts(upload, b"abc")
    identifier = made.submit(b"", headers={"x-turnout-upload": upload["id"]}).json["id"]
    made.add(IRIS, lambda *_: pytest.fail("the model ran"))
    made.finish()
    state = made.state(identifier)
    assert (state["state"], state["error"]["code"], state["error"]["status"]) == ("failed", "DIGEST_MISMATCH", 422)


@pytest.mark.parametrize("context", [{"identity": {"apiKeyId": "key2"}}, {"later": UPLOAD_S}])
def test_upload_can_be_used_only_by_its_caller_within_an_hour(made: Deployment, context: dict[str, Any]) -> None:
    upload = announce(made, b"abc")
    send_parts(upload, b"abc")
    made.pass_time(context.pop("later", 0))
    headers = {"prefer": "respond-async", "x-turnout-upload": upload["id"]}
    answer = made.call("POST", "/models/iris/inference", None, headers, **context)
    assert (answer.status, answer.json["code"]) == (404, "UNKNOWN_UPLOAD")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"bytes": 0}, 400, "INVALID_UPLOAD"),
        ({"bytes": 1024**3 + 1}, 413, "BODY_TOO_LARGE"),
        ({"bytes": 1, "sha256": "x"}, 400, "INVALID_UPLOAD"),
        (b"{", 400, "INVALID_UPLOAD"),
    ],
)
def test_invalid_announcement_is_rejected(made: Deployment, body: Any, status: int, code: str) -> None:
    answer = made.call("POST", "/uploads", body)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_large_answer_has_a_signed_address_of_s3(made: Deployment) -> None:
    large = bytes(5 * 1024 * 1024)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "7"}
    made.add(IRIS, lambda *_: make_answer(200, headers, large, binary=True))
    identifier = made.submit().json["id"]
    made.finish()
    address = made.state(identifier)["answer"]["address"]
    redirect = made.call("GET", f"/requests/{identifier}/answer")
    assert redirect.status == 303
    for each in (address, redirect.headers["location"]):
        assert "X-Amz-Signature" in each
        assert "X-Amz-Expires=3600" in each
        fetched = http.get(each, timeout=60)
        assert fetched.content == large
        assert fetched.headers["content-type"] == "application/octet-stream"
        assert fetched.headers["x-amz-meta-inference-header-content-length"] == "7"


def test_answer_in_a_file_is_stored(made: Deployment) -> None:
    def handle(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
        path = event["turnout"]["asynchronous"]["answer_file"]
        Path(path).write_bytes(b'"from a file"')
        return {**make_answer(200, JSON, b""), "turnout": {"answer_file": path}}

    made.add(IRIS, handle)
    identifier = made.submit().json["id"]
    made.finish()
    assert made.call("GET", f"/requests/{identifier}/answer").body == b'"from a file"'


def test_webhook_is_retried_with_back_off_and_then_fails(made: Deployment) -> None:
    tries: list[float] = []

    def refuses(_address: str) -> None:
        tries.append(made.now)
        raise CallbackError("no")

    made.deliver = refuses
    identifier = made.submit(headers={"x-turnout-callback": f"https://{HOOKS}/done"}).json["id"]
    made.finish(step=2.0)
    assert len(tries) == MOST_TRIES
    pauses = [late - early for early, late in itertools.pairwise(tries)]
    assert all(
        wanted - 1 <= pause <= wanted + 4 for wanted, pause in zip((5, 10, 20, 40, 80, 160, 320), pauses, strict=True)
    )
    assert made.state(identifier)["callback"] == "failed"


def test_webhook_contains_the_result_but_no_signed_address(made: Deployment) -> None:
    identifier = made.submit(headers={"x-turnout-callback": f"https://{HOOKS}/done"}).json["id"]
    made.finish()
    ((address, sent),) = made.delivered
    assert address == f"https://{HOOKS}/done"
    assert sent["id"] == identifier
    assert sent["state"] == "done"
    assert sent["answer"]["address"] == f"/prod/requests/{identifier}/answer"
    secret = made.store.load_secret()
    assert made.store.load_secret() == secret != webhook_secret(secret)


@pytest.mark.parametrize("address", ["http://hooks.example.com/", "https://evil.example.com/", "https://10.0.0.1/"])
def test_callback_to_another_host_is_rejected(made: Deployment, address: str) -> None:
    headers = {"prefer": "respond-async", "x-turnout-callback": address}
    answer = made.call("POST", "/models/iris/inference", {"x": 1}, headers)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_CALLBACK")


def test_bodies_and_answers_appear_in_no_log_or_message(made: Deployment) -> None:
    made.submit({"x": "very private"})
    event = made.receive()
    assert event is not None
    assert json.loads(event["Records"][0]["body"]).keys() == {"stage", "id"}
    assert base64.b64encode(b"very private").decode() not in json.dumps(event)
