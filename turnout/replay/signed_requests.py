"""Signs requests to stages with `auth: iam`, with boto3's credentials on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from turnout.problems import TurnoutError
from turnout.protocol.aws.signing import Credentials, sign_request

Sign = Callable[[str, bytes, Mapping[str, str]], Mapping[str, str]]
"""Returns the headers of a signed POST request, from its path, its body and its headers."""

SERVICE = "execute-api"


class NoCredentialsError(TurnoutError):
    """This machine has no AWS credentials."""


def make_signer(url: str, region: str, session: Any = None, clock: Callable[[], float] = time.time) -> Sign:
    """Return a function that signs requests to an API.

    Args:
        url: address of the API.
        region: region of the API.
        session: a `boto3.Session`; None for a new one.
        clock: seconds since 1970.

    Raises:
        NoCredentialsError: boto3 finds no credentials.
    """
    if session is None:
        import boto3

        session = boto3.Session()
    credentials = session.get_credentials()
    if credentials is None:
        message = "A stage with `auth: iam` needs signed requests, and this machine has no AWS credentials."
        raise NoCredentialsError(message, "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    host = urlsplit(url).netloc.rpartition("@")[2]

    def sign(path: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
        frozen = credentials.get_frozen_credentials()  # refreshes temporary credentials
        signer = Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")
        lower = {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}}
        return sign_request(
            signer,
            "POST",
            region=region,
            service=SERVICE,
            path=path,
            headers={**lower, "host": host},
            body=body,
            now=clock(),
        )

    return sign
