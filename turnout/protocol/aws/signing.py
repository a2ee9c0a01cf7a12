"""AWS Signature Version 4, for the few requests that functions make without boto3, which is slower to import.

Pure: the time is an argument. Source: AWS, "Create a signed AWS API request"; the tests compare it with botocore's
SigV4Auth.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The caller's credentials; for a function, Lambda sets them in the environment."""

    access_key: str
    secret_key: str
    session_token: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials:
        """Return those of an environment; KeyError if it has none."""
        return cls(environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ.get("AWS_SESSION_TOKEN", ""))


def sign_request(
    credentials: Credentials,
    method: str,
    *,
    region: str,
    service: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
) -> dict[str, str]:
    """Return the headers of a signed request: those given and the signature's.

    Args:
        credentials: credentials of the signer.
        method: `POST`.
        region: `eu-west-1`.
        service: `lambda` or `s3`.
        path: as sent, with its escapes, without a query.
        headers: headers to sign, with names in lower case, including `host`.
        body: the payload.
        now: seconds since 1970.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {**headers, "x-amz-date": moment}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    lines = [f"{name}:{' '.join(signed[name].split())}" for name in sorted(signed)]
    # The path is escaped a second time, for every service but S3.
    path = path if service == "s3" else quote(path, safe="/~")
    canonical = "\n".join([method, path, "", *lines, "", names, hashlib.sha256(body).hexdigest()])
    scope = (moment[:8], region, service, "aws4_request")
    signature = sign_canonical(credentials.secret_key, moment, scope, canonical.encode())
    credential = "/".join((credentials.access_key, *scope))
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": authorization}


def sign_canonical(secret_key: str, moment: str, scope: Sequence[str], canonical: bytes) -> str:
    """Return the signature of a canonical request.

    Args:
        secret_key: secret key of the signer.
        moment: `20261130T120000Z`.
        scope: the day, the region, the service and `aws4_request`.
        canonical: the canonical request.
    """
    key = f"AWS4{secret_key}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join([ALGORITHM, moment, "/".join(scope), hashlib.sha256(canonical).hexdigest()])
    return hmac.digest(key, text.encode(), "sha256").hex()
