"""Signed requests: as botocore signs them, and without credentials."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.credentials import Credentials

from turnout.replay.signed_requests import NoCredentialsError, make_signer

URL = "https://abc.execute-api.eu-west-1.amazonaws.com"


class Session:
    def __init__(self, credentials: Credentials | None) -> None:
        self.credentials = credentials

    def get_credentials(self) -> Any:
        return self.credentials


@pytest.mark.parametrize("token", [None, "session"])
def test_the_signature_equals_that_of_botocore(token: str | None) -> None:
    credentials = Credentials("AKID", "secret", token)
    headers = {"Content-Type": "application/octet-stream", "x-turnout-replay": "1"}
    path, body = "/prod/models/iris/v1/inference", b"\x00{}"
    now = get_current_datetime().timestamp()
    signed = make_signer(URL, "eu-west-1", Session(credentials), lambda: now)(path, body, headers)
    request = AWSRequest("POST", URL + path, headers, body)
    auth = SigV4Auth(credentials, "execute-api", "eu-west-1")
    request.context["timestamp"] = signed["x-amz-date"]
    request.headers["X-Amz-Date"] = signed["x-amz-date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    wanted = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert signed["authorization"].endswith(f"Signature={wanted}")


def test_without_credentials_the_remedy_is_named() -> None:
    with pytest.raises(NoCredentialsError, match="auth: iam") as raised:
        make_signer(URL, "eu-west-1", Session(None))
    assert "AWS_PROFILE" in raised.value.hint
