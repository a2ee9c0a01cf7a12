"""Checks signatures against botocore, which every AWS SDK in Python uses."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.gateway.rules.errors import UNSIGNED, GatewayError
from turnout.gateway.rules.sigv4 import SignedRequest, check_signature

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SECRETS = {ACCESS: SECRET}
HOST = "127.0.0.1:8080"
BODY = b'{"instances": [[1.0]]}'
PATH = "/prod/models/iris/inference"


def signed(
    path: str = PATH,
    query: str = "",
    body: bytes = BODY,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    secret: str = SECRET,
    access: str = ACCESS,
    token: str | None = None,
    service: str = "execute-api",
    region: str = "eu-west-1",
    presigned_s: int = 0,
) -> SignedRequest:
    body = b"" if presigned_s else body  # botocore moves a form into the query
    url = f"http://{HOST}{path}{'?' if query else ''}{query}"
    aws = AWSRequest(method=method, url=url, data=body, headers=headers or {"Content-Type": "application/json"})
    credentials = Credentials(access, secret, token)
    signer: Any = (
        SigV4QueryAuth(credentials, service, region, expires=presigned_s)
        if presigned_s
        else SigV4Auth(credentials, service, region)
    )
    signer.add_auth(aws)
    sent = aws.prepare()
    _, _, query = sent.url.partition("?")
    return SignedRequest(method, path, query, [("Host", HOST), *((n, str(v)) for n, v in sent.headers.items())], body)


def changed(request: SignedRequest, **fields: Any) -> SignedRequest:
    names = ("method", "path", "query", "headers", "body")
    return SignedRequest(**({name: getattr(request, name) for name in names} | fields))


def code_of(answer: str | GatewayError) -> str:
    return answer if isinstance(answer, str) else answer.code


@pytest.mark.parametrize("presigned_s", [0, 60])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        (PATH, ""),
        ("/", ""),
        ("/prod/models/", ""),
        ("/prod//models/./iris/../iris/inference", ""),
        ("/prod/a%20b/%C3%A4~-_.x", ""),
        (PATH, "b=2&a=1"),
        (PATH, "a=2&a=1&A=3"),
        (PATH, "flag&empty="),
        (PATH, "space=a%20b&slash=a%2Fb&plus=%2B&tilde=~"),
        (PATH, "utf=%C3%A4&equals=a%3Db"),
    ],
)
def test_botocores_signature_is_accepted(path: str, query: str, presigned_s: int) -> None:
    assert check_signature(signed(path, query, presigned_s=presigned_s), SECRETS, time.time()) == ACCESS


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("abzAZ09-_.~%20/", min_size=1, max_size=8).map(lambda text: text.replace("%", "%25")), max_size=5),
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4),
    st.binary(max_size=50),
    st.sampled_from(["GET", "POST", "HEAD"]),
)
def test_any_request_signed_by_botocore_is_accepted(
    segments: list[str], pairs: list[tuple[str, str]], body: bytes, method: str
) -> None:
    from urllib.parse import quote

    path = "/" + "/".join(segments)
    query = "&".join(
        f"{quote(name.encode(errors='replace'), '')}={quote(value.encode(errors='replace'), '')}"
        for name, value in pairs
        if name
    )
    assert check_signature(signed(path, query, body, method=method), SECRETS, time.time()) == ACCESS


@pytest.mark.parametrize("presigned_s", [0, 60])
def test_order_and_case_of_headers_do_not_matter(presigned_s: int) -> None:
    request = signed(headers={"X-B": " two  words ", "X-A": "1", "Content-Type": "a/b"}, presigned_s=presigned_s)
    headers = [(name.upper(), value) for name, value in reversed(request.headers)]
    assert check_signature(changed(request, headers=headers), SECRETS, time.time()) == ACCESS


@pytest.mark.parametrize("presigned_s", [0, 60])
def test_a_request_changed_after_signing_is_rejected(presigned_s: int) -> None:
    request = signed(query="a=1", presigned_s=presigned_s)
    changes: list[dict[str, Any]] = [
        {"body": BODY + b" "},
        {"method": "GET"},
        {"path": PATH.replace("iris", "spam")},
        {"path": PATH + "/"},
        {"query": request.query.replace("a=1", "a=2")},
        {"query": request.query + "&b=1"},
        {"headers": [("Host", "evil.example"), *request.headers[1:]]},
    ]
    for change in changes:
        assert code_of(check_signature(changed(request, **change), SECRETS, time.time())) == (
            "InvalidSignatureException"
        ), change


@pytest.mark.parametrize("presigned_s", [0, 60])
def test_wrong_keys_are_rejected(presigned_s: int) -> None:
    now = time.time()
    wrong_secret = check_signature(signed(secret="other", presigned_s=presigned_s), SECRETS, now)
    assert code_of(wrong_secret) == "InvalidSignatureException"
    unknown = check_signature(signed(access="AKIDOTHER", presigned_s=presigned_s), SECRETS, now)
    assert code_of(unknown) == "UnrecognizedClientException"
    token = check_signature(signed(token="a session's", presigned_s=presigned_s), SECRETS, now)
    assert code_of(token) == "UnrecognizedClientException"
    service = check_signature(signed(service="lambda", presigned_s=presigned_s), SECRETS, now)
    assert code_of(service) == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("presigned_s", "moved_s", "message"),
    [
        (0, 290, ""),
        (0, 310, "Signature expired"),
        (0, -290, ""),
        (0, -310, "Signature not yet current"),
        (3600, 3590, ""),
        (3600, 3610, "Signature expired"),
        (3600, -310, "Signature not yet current"),
    ],
)
def test_time_may_be_off_by_five_minutes(presigned_s: int, moved_s: float, message: str) -> None:
    request = signed(presigned_s=presigned_s)
    answer = check_signature(request, SECRETS, time.time() + moved_s)
    assert (answer == ACCESS) if not message else (isinstance(answer, GatewayError) and message in answer.message)


def test_unsigned_requests_get_the_error_of_an_unknown_route() -> None:
    plain = changed(signed(), headers=[("Host", HOST)])
    assert check_signature(plain, SECRETS, time.time()) is UNSIGNED
    bearer = changed(plain, headers=[("Host", HOST), ("Authorization", "Bearer x")])
    assert check_signature(bearer, SECRETS, time.time()) is UNSIGNED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SignedHeaders=content-type;host;x-amz-date", "SignedHeaders=content-type;x-amz-date"),
        ("SignedHeaders=content-type;host;x-amz-date", "SignedHeaders=content-type;host"),
        ("SignedHeaders=content-type;host;x-amz-date", "SignedHeaders=content-type;host;x-amz-date;x-absent"),
        ("SignedHeaders=", "Other="),
        ("Credential=", "Other="),
        ("Signature=", "Other="),
        ("aws4_request", "aws5_request"),
        ("/execute-api", ""),
        ("Signature=", "Signature=\N{LATIN SMALL LETTER E WITH ACUTE}"),
    ],
)
def test_malformed_authorization_is_rejected(old: str, new: str) -> None:
    request = signed()
    headers = [(name, value.replace(old, new) if name == "Authorization" else value) for name, value in request.headers]
    assert headers != request.headers
    assert code_of(check_signature(changed(request, headers=headers), SECRETS, time.time())) in {
        "InvalidSignatureException",
        "IncompleteSignatureException",
    }


def test_unsigned_payload_does_not_bypass_the_body_check() -> None:
    request = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", "Content-Type": "a/b"})
    assert code_of(check_signature(request, SECRETS, time.time())) == "InvalidSignatureException"


def test_a_presigned_url_is_valid_for_at_most_a_week() -> None:
    request = signed(presigned_s=8 * 86_400)
    assert code_of(check_signature(request, SECRETS, time.time())) == "InvalidSignatureException"


def test_before_the_body_has_arrived_only_the_head_is_checked() -> None:
    request = changed(signed(), body=None)
    assert check_signature(request, SECRETS, time.time()) == ACCESS
    assert code_of(check_signature(request, {}, time.time())) == "UnrecognizedClientException"
