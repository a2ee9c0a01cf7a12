"""Checks AWS Signature Version 4, as API Gateway does for `auth: iam`: in headers, or in a presigned URL.

Source: IAM User Guide, "Create a signed AWS API request"; tested against botocore's signers. Any region is accepted,
because there is none here. The messages are AWS's.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from turnout.gateway.rules.errors import UNSIGNED, GatewayError
from turnout.protocol.aws.signing import ALGORITHM, sign_canonical

SERVICE = "execute-api"
SKEW_S = 300
"""The largest deviation of a request's time."""

LONGEST_PRESIGNED_S = 7 * 86_400

_MOMENT = re.compile(r"\d{8}T\d{6}Z")
_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]+)\s*")
_UNRESERVED = "-_.~"


def _refusal(kind: str, code: str, message: str) -> GatewayError:
    return GatewayError(kind, 403, code, message, spaced=False)


UNKNOWN_KEY = _refusal(
    "INVALID_SIGNATURE", "UnrecognizedClientException", "The security token included in the request is invalid."
)
MISMATCH = _refusal(
    "INVALID_SIGNATURE",
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details.",
)


def _incomplete(what: str) -> GatewayError:
    return _refusal("INVALID_SIGNATURE", "IncompleteSignatureException", what)


def _invalid(what: str) -> GatewayError:
    return _refusal("INVALID_SIGNATURE", "InvalidSignatureException", what)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that its signature covers.

    Args:
        method: `POST`.
        path: as it was sent, including escapes.
        query: as it was sent, without the `?`.
        headers: name and value of each header, as they were sent.
        body: the payload; None if it has not arrived yet and is not checked.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Claim:
    """The fields of a request's signature."""

    access_key: str
    scope: tuple[str, ...]
    moment: str
    signed: tuple[str, ...]
    signature: str
    expires_s: int = 0  # of a presigned URL; 0 for others


def check_signature(request: SignedRequest, secrets: Mapping[str, str], now: float) -> str | GatewayError:
    """Return the access key that signed a request, or why it is rejected.

    Args:
        request: the request as it arrived.
        secrets: access key -> secret key.
        now: seconds since 1970.
    """
    headers = _join_headers(request.headers)
    claim = _read_claim(request, headers)
    if isinstance(claim, GatewayError):
        return claim
    if (error := _check_claim(claim, headers, now)) is not None:
        return error
    secret = secrets.get(claim.access_key)
    if secret is None or "x-amz-security-token" in headers or "X-Amz-Security-Token" in dict(_pairs(request.query)):
        return UNKNOWN_KEY
    if request.body is None:
        return claim.access_key
    payload = hashlib.sha256(request.body).hexdigest()
    if headers.get("x-amz-content-sha256", payload) != payload:
        return MISMATCH
    for query in _canonical_queries(request.query, is_presigned=bool(claim.expires_s)):
        canonical = _canonical_request(request, headers, claim.signed, query, payload).encode(errors="surrogatepass")
        signature = sign_canonical(secret, claim.moment, claim.scope, canonical)
        if hmac.compare_digest(signature.encode(), claim.signature.encode()):
            return claim.access_key
    return MISMATCH


def _read_claim(request: SignedRequest, headers: Mapping[str, str]) -> _Claim | GatewayError:
    sent = headers.get("authorization")
    if sent is None:
        return _read_presigned(request.query)
    algorithm, _, rest = sent.partition(" ")
    if algorithm != ALGORITHM:
        return UNSIGNED
    values = {match[1]: match[2] for part in rest.split(",") if (match := _FIELD.fullmatch(part))}
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if name not in values]
    moment = headers.get("x-amz-date", "")
    if missing or not moment:
        names = [f"'{name}' parameter" for name in missing]
        return _incomplete(f"Authorization header requires {' and '.join([*names, *([] if moment else ['a date'])])}.")
    access_key, *scope = values["Credential"].split("/")
    return _Claim(access_key, tuple(scope), moment, tuple(values["SignedHeaders"].split(";")), values["Signature"])


def _read_presigned(query: str) -> _Claim | GatewayError:
    sent = dict(parse_qsl(query, keep_blank_values=True))
    if "X-Amz-Signature" not in sent and "X-Amz-Algorithm" not in sent:
        return UNSIGNED
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not sent.get(f"X-Amz-{name}"):
            return _incomplete(f"AWS query-string parameters must include 'X-Amz-{name}'.")
    expires = sent["X-Amz-Expires"]
    if sent["X-Amz-Algorithm"] != ALGORITHM or not expires.isdecimal() or not 0 < int(expires) <= LONGEST_PRESIGNED_S:
        return _invalid(f"X-Amz-Algorithm must be {ALGORITHM} and X-Amz-Expires 1-{LONGEST_PRESIGNED_S}.")
    access_key, *scope = sent["X-Amz-Credential"].split("/")
    signed = tuple(sent["X-Amz-SignedHeaders"].split(";"))
    return _Claim(access_key, tuple(scope), sent["X-Amz-Date"], signed, sent["X-Amz-Signature"], int(expires))


def _check_claim(claim: _Claim, headers: Mapping[str, str], now: float) -> GatewayError | None:
    """Check the time, the scope and the signed headers."""
    if _MOMENT.fullmatch(claim.moment) is None:
        return _invalid(f"Date must be in ISO-8601 'basic format'. Got '{claim.moment[:30]}'.")
    if len(claim.scope) != 4 or claim.scope[0] != claim.moment[:8] or claim.scope[3] != "aws4_request":
        return _invalid("Credential should be scoped to a valid date, region, service and 'aws4_request'.")
    if claim.scope[2] != SERVICE:
        return _invalid(f"Credential should be scoped to correct service: '{SERVICE}'.")
    try:
        age_s = now - calendar.timegm(time.strptime(claim.moment, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return _invalid(f"Date must be in ISO-8601 'basic format'. Got '{claim.moment}'.")
    if age_s > (claim.expires_s or SKEW_S):
        return _invalid(f"Signature expired: {claim.moment}")
    if age_s < -SKEW_S:
        return _invalid(f"Signature not yet current: {claim.moment}")
    if "host" not in claim.signed or any(name not in headers for name in claim.signed):
        return _invalid("'Host' and every header of SignedHeaders must be sent and signed.")
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in claim.signed]
    if unsigned:
        return _invalid(f"'{unsigned[0]}' must be a signed header.")
    return None


def _join_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return name in lower case -> its values, each without outer or repeated spaces, in order of arrival."""
    joined: dict[str, list[str]] = {}
    for name, value in headers:
        joined.setdefault(name.lower(), []).append(" ".join(value.split()))
    return {name: ",".join(values) for name, values in joined.items()}


def _canonical_request(
    request: SignedRequest, headers: Mapping[str, str], signed: Sequence[str], query: str, payload: str
) -> str:
    lines = [f"{name}:{headers[name]}" for name in signed]
    path = quote(_normalize_path(request.path), safe="/~")
    return "\n".join([request.method, path, query, *lines, "", ";".join(signed), payload])


def _normalize_path(path: str) -> str:
    """Return the path without `.`, `..` and repeated slashes, as AWS signs it."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    return f"/{'/'.join(kept)}{'/' if kept and path.endswith('/') else ''}"


def _pairs(query: str) -> list[tuple[str, str]]:
    """Return name and value of each parameter as they were sent."""
    return [(name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part)]


def _canonical_queries(query: str, *, is_presigned: bool) -> list[str]:
    """Yield the canonical query.

    It is escaped as AWS requires, or as it was sent, because some signers do not escape again.
    """
    sent = [pair for pair in _pairs(query) if not (is_presigned and pair[0] == "X-Amz-Signature")]
    escaped = [(quote(unquote(name), _UNRESERVED), quote(unquote(value), _UNRESERVED)) for name, value in sent]
    return list(dict.fromkeys("&".join(f"{name}={value}" for name, value in sorted(way)) for way in (escaped, sent)))
