"""Lambda's Invoke API over kept connections: answers, errors, deadlines, limits, and retries."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from router_lambda.connections import MOST_IDLE, Connections
from router_lambda.invoke import LambdaInvoke
from router_lambda.tasks import run_to_end
from tests.builders.invoke_api import InvokeApi, Reply, Seen, invoke_api, replying
from tests.builders.waiting import PATIENCE_S
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES, LARGEST_EVENT_BYTES
from turnout.protocol.routing.invocation import Answered

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
ANSWER = {"statusCode": 200, "body": "é"}


@contextmanager
def invoking(api: InvokeApi, environ: Mapping[str, str] = KEYS) -> Iterator[LambdaInvoke]:
    invoke = LambdaInvoke(api.url, "eu-west-1", environ=environ)
    try:
        yield invoke
    finally:
        invoke.close()


def call(invoke: LambdaInvoke, event: Mapping[str, Any] | None = None, **fields: Any) -> Answered:
    deadline_s = time.monotonic() + fields.pop("seconds", PATIENCE_S)
    return run_to_end(invoke("p_iris_v1", "live", event or {"body": "{}"}, deadline_s=deadline_s, **fields))


def test_a_call_is_a_signed_request_to_lambda() -> None:
    with invoke_api(replying(ANSWER)) as api, invoking(api, {**KEYS, "_X_AMZN_TRACE_ID": "Root=1"}) as invoke:
        assert call(invoke, {"body": 'é"'}) == Answered(ANSWER)
    (seen,) = api.seen
    assert seen.path == "/2015-03-31/functions/p_iris_v1%3Alive/invocations"
    assert seen.event == {"body": 'é"'}
    assert seen.headers["x-amz-invocation-type"] == "RequestResponse"
    assert seen.headers["x-amzn-trace-id"] == "Root=1"
    assert seen.headers["x-amz-security-token"] == "c"
    assert "x-amzn-trace-id" not in seen.headers["authorization"]
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=a/")


def test_an_event_is_no_larger_than_it_arrived() -> None:
    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        call(invoke, {"body": "é" * 10, "n": [1, 2]})
        assert api.seen[0].body == '{"body":"éééééééééé","n":[1,2]}'.encode()
        call(invoke, {"body": "\ud800"})
        assert api.seen[1].body == b'{"body":"\\ud800"}'


def test_an_asynchronous_call_is_only_accepted() -> None:
    with invoke_api(lambda _seen: Reply(202, b"")) as api, invoking(api) as invoke:
        assert call(invoke, asynchronous=True) == Answered(None)
        assert api.seen[0].headers["x-amz-invocation-type"] == "Event"


UNHANDLED = {"X-Amz-Function-Error": "Unhandled"}


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (replying({"errorMessage": "boom", "errorType": "ValueError"}, **UNHANDLED), "failed"),
        (replying({"errorMessage": "Task timed out after 3.00 seconds"}, **UNHANDLED), "timed_out"),
        (replying({"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: 1 Error"}, **UNHANDLED), "timed_out"),
        (replying({"errorType": "Function.ResponseSizeTooLarge"}, **UNHANDLED), "too_large"),
        (replying("text", **UNHANDLED), "failed"),
        (lambda _seen: Reply(body=b"rubbish"), "failed"),
        (lambda _seen: Reply(403, headers={"x-amzn-errortype": "AccessDeniedException"}), "unknown_function"),
        (lambda _seen: Reply(404, b'{"Message": "Function not found"}'), "unknown_function"),
        (lambda _seen: Reply(413), "request_too_large"),
        (lambda _seen: Reply(429), "throttled"),
        (lambda _seen: Reply(500), "failed"),
        (lambda _seen: Reply(502), "failed"),
        (lambda _seen: Reply(400), "failed"),
        (lambda _seen: Reply(302, headers={"location": "/"}), "failed"),
        (lambda _seen: Reply(hangs_up=True), "failed"),
    ],
)
def test_an_error_is_reported_from_an_answer(reply: Any, error: str) -> None:
    with invoke_api(reply) as api, invoking(api) as invoke:
        result = call(invoke)
        assert (result.answer, result.error) == (None, error)
        assert result.message
        assert len(api.seen) == 1  # none of these is sent again


def test_the_error_of_the_function_is_in_the_message() -> None:
    raised = replying({"errorMessage": "boom", "errorType": "ValueError"}, **UNHANDLED)
    with invoke_api(raised) as api, invoking(api) as invoke:
        assert call(invoke).message == "ValueError: boom"


@pytest.mark.parametrize(("asynchronous", "limit"), [(False, LARGEST_EVENT_BYTES), (True, LARGEST_ASYNC_EVENT_BYTES)])
def test_an_event_over_the_limit_of_lambda_is_not_sent(asynchronous: bool, limit: int) -> None:
    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        body = "x" * (limit - len('{"body":""}'))
        assert call(invoke, {"body": body}, asynchronous=asynchronous).error == ""
        assert call(invoke, {"body": body + "x"}, asynchronous=asynchronous).error == "request_too_large"
        # A quote takes two bytes when sent, however it arrived.
        assert call(invoke, {"body": body[:-1] + '"'}, asynchronous=asynchronous).error == "request_too_large"
        assert len(api.seen) == 1


def test_a_connection_is_kept() -> None:
    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        assert [call(invoke).error for _ in range(3)] == [""] * 3
        assert {seen.connection for seen in api.seen} == {1}


def test_a_connection_closed_after_an_answer_is_not_kept() -> None:
    closing = Reply(body=b"{}", headers={"connection": "close"}, closes=True)
    with invoke_api(lambda _seen: closing) as api, invoking(api) as invoke:
        assert [call(invoke).error for _ in range(2)] == [""] * 2
        assert [seen.connection for seen in api.seen] == [1, 2]


def test_a_kept_connection_closed_in_the_meantime_is_no_failure() -> None:
    """As after Lambda has frozen the process: the server has closed the connection, which shows only when it is
    used.
    """
    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        call(invoke)
        api.answer = lambda seen: Reply(hangs_up=True) if seen.connection == 1 else Reply(body=b'{"statusCode": 201}')
        assert call(invoke) == Answered({"statusCode": 201})
        assert [seen.connection for seen in api.seen] == [1, 1, 2]


def test_a_truncated_answer_is_not_requested_again() -> None:
    def cut(_seen: Seen) -> Reply:
        return Reply(body=b'{"status', headers={"content-length": "99"}, closes=True)

    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        call(invoke)
        api.answer = cut
        assert call(invoke).error == "failed"
        assert len(api.seen) == 2


def test_a_call_ends_at_its_deadline() -> None:
    gate = threading.Event()

    def hang(_seen: Seen) -> Reply:
        gate.wait(PATIENCE_S)
        return Reply(hangs_up=True)

    with invoke_api(hang) as api, invoking(api) as invoke:
        assert call(invoke, seconds=0.05).error == "timed_out"
        gate.set()


def test_without_time_left_nothing_is_sent() -> None:
    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        assert call(invoke, seconds=-1).error == "timed_out"
        assert api.seen == []


def test_an_unreachable_service_is_a_failure() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        invoke = LambdaInvoke(f"http://127.0.0.1:{bound.getsockname()[1]}", "eu-west-1", environ=KEYS)
        result = call(invoke)
    assert result.error == "failed"
    assert "Lambda cannot be reached: ConnectionRefusedError" in result.message


def test_calls_of_several_threads_run_concurrently() -> None:
    together = threading.Barrier(4, timeout=PATIENCE_S)

    def meet(seen: Seen) -> Reply:
        together.wait()
        return Reply(body=json.dumps({"statusCode": 200, "body": seen.event["body"]}).encode())

    with invoke_api(meet) as api, invoking(api) as invoke:
        results: dict[int, Any] = {}

        def run(number: int) -> None:
            results[number] = call(invoke, {"body": str(number)}).answer

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert {number: answer["body"] for number, answer in results.items()} == {n: str(n) for n in range(4)}


def test_only_a_useful_number_of_connections_is_kept() -> None:
    with invoke_api(replying(ANSWER)) as api:
        connections = Connections(api.url)
        gate = threading.Barrier(MOST_IDLE + 2, timeout=PATIENCE_S)
        api.answer = lambda _seen: (gate.wait(), Reply())[1]
        threads = [
            threading.Thread(target=connections.post, args=("/", {}, b"{}", time.monotonic() + PATIENCE_S))
            for _ in range(MOST_IDLE + 2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        opened = {seen.connection for seen in api.seen}
        api.answer = replying(ANSWER)
        assert len(opened) == MOST_IDLE + 2
        assert len(connections._idle) == MOST_IDLE
        connections.close()
        assert len(connections._idle) == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(signed.public_bytes(Encoding.PEM) + secret)
    return path


def test_calls_use_tls_and_kept_connections_too(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with invoke_api(replying(ANSWER), certificate) as api, invoking(api) as invoke:
        assert [call(invoke) for _ in range(2)] == [Answered(ANSWER)] * 2
        assert [seen.connection for seen in api.seen] == [1, 1]
        api.answer = lambda seen: Reply(hangs_up=True) if seen.connection == 1 else Reply(body=b'{"statusCode": 201}')
        assert call(invoke) == Answered({"statusCode": 201})


def test_a_server_that_is_not_lambda_gets_nothing(certificate: Path) -> None:
    with invoke_api(replying(ANSWER), certificate) as api, invoking(api) as invoke:
        result = call(invoke)
        assert (result.error, api.seen) == ("failed", [])
        assert "SSLCertVerificationError" in result.message


@pytest.mark.parametrize("endpoint", ["lambda.eu-west-1.amazonaws.com", "ftp://host", "https://"])
def test_an_invalid_endpoint_is_rejected(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is not an endpoint"):
        Connections(endpoint)


def test_boto3_reads_the_same_request_the_same_way() -> None:
    """The small Invoke API of these tests also works with boto3."""
    import boto3

    with invoke_api(replying(ANSWER)) as api, invoking(api) as invoke:
        call(invoke, {"body": "{}"})
        client = boto3.client(
            "lambda", endpoint_url=api.url, region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        answer = client.invoke(FunctionName="p_iris_v1:live", Payload=b'{"body":"{}"}')
        assert json.loads(answer["Payload"].read()) == ANSWER
        client.close()
    ours, botos = api.seen
    assert (ours.path, ours.body) == (botos.path, botos.body)
