"""Signatures are identical to botocore's."""

from __future__ import annotations

import calendar
import time
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.protocol.aws.signing import Credentials, sign_request

NOW = calendar.timegm((2026, 11, 23, 2, 3, 4))


class FixedTime(SigV4Auth):  # type: ignore[misc]
    """Signs at the time `NOW`: botocore's own steps, with a fixed clock."""

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = datetime.fromtimestamp(NOW, UTC).strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


def botocores(credentials: Credentials, region: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    request = AWSRequest("POST", f"https://{headers['host']}{path}", headers=dict(headers), data=body)
    keys = BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.session_token or None)
    FixedTime(keys, "lambda", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789-_", min_size=1, max_size=20)


@settings(deadline=None, max_examples=60)
@given(words, words, st.text("ab/+=1", max_size=30), words, st.binary(max_size=200))
def test_a_signature_equals_that_of_botocore(access: str, secret: str, token: str, name: str, body: bytes) -> None:
    credentials = Credentials(access, secret, token)
    path = f"/2015-03-31/functions/{name}%3Alive/invocations"
    headers = {
        "host": "lambda.eu-west-1.amazonaws.com",
        "content-type": "application/json",
        "x-amz-invocation-type": "RequestResponse",
    }
    result = sign_request(
        credentials, "POST", region="eu-west-1", service="lambda", path=path, headers=headers, body=body, now=NOW
    )
    assert result == botocores(credentials, "eu-west-1", path, headers, body)


def test_a_path_in_s3_is_signed_as_it_is_sent() -> None:
    from botocore.auth import S3SigV4Auth

    class FixedS3(FixedTime, S3SigV4Auth):
        pass

    headers = {"host": "bucket.s3.eu-west-1.amazonaws.com", "range": "bytes=0-9"}
    request = AWSRequest("GET", f"https://{headers['host']}/models/a%20b%2Bc.onnx", headers=dict(headers))
    FixedS3(BotocoreCredentials("a", "b"), "s3", "eu-west-1").add_auth(request)
    sent = {**headers, "x-amz-content-sha256": request.headers["X-Amz-Content-SHA256"]}
    result = sign_request(
        Credentials("a", "b"),
        "GET",
        region="eu-west-1",
        service="s3",
        path="/models/a%20b%2Bc.onnx",
        headers=sent,
        body=b"",
        now=NOW,
    )
    assert result["authorization"] == request.headers["Authorization"]


def test_spaces_in_a_header_are_folded_as_in_the_signature() -> None:
    headers = {"host": "localhost:9001", "x-custom": "  a   b "}
    credentials = Credentials("a", "b")
    result = sign_request(
        credentials, "POST", region="local", service="lambda", path="/", headers=headers, body=b"", now=NOW
    )
    assert result["authorization"] == botocores(credentials, "local", "/", headers, b"")["authorization"]


def test_the_time_is_utc_in_any_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        result = sign_request(
            Credentials("a", "b"),
            "POST",
            region="r",
            service="lambda",
            path="/",
            headers={"host": "h"},
            body=b"",
            now=NOW,
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    assert result["x-amz-date"] == "20261123T020304Z"


def test_credentials_come_from_the_environment() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert Credentials.of(keys) == Credentials("a", "b")
    assert Credentials.of({**keys, "AWS_SESSION_TOKEN": "c"}) == Credentials("a", "b", "c")
    with pytest.raises(KeyError):
        Credentials.of({})
