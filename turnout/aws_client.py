"""boto3 clients that reach a server on this machine directly.

botocore uses proxies from `HTTP_PROXY` and similar variables for every address that `NO_PROXY` does not name, including
loopback addresses, which no proxy can reach.
"""

from __future__ import annotations

from typing import Any

from turnout.extras import MissingPackageError
from turnout.loopback import is_loopback_url


def check_boto3(purpose: str) -> None:
    """Raise `MissingPackageError` unless boto3 is installed; `purpose` says what needs it."""
    try:
        import boto3  # noqa: F401
    except ModuleNotFoundError:
        raise MissingPackageError("boto3", purpose) from None


def make_aws_client(service: str, *, session: Any = None, **options: Any) -> Any:
    """Like `boto3.client`, or a session's, but without a proxy if the endpoint is a loopback address.

    The endpoint may come from `endpoint_url`, `AWS_ENDPOINT_URL` or the profile: only the client knows.

    Raises:
        MissingPackageError: boto3 is not installed.
    """
    check_boto3(f"a client of AWS's {service}")
    import boto3
    from botocore.config import Config

    make_client = boto3.client if session is None else session.client
    config = options.get("config") or Config()
    direct = {**options, "config": config.merge(Config(proxies={}))}
    if is_loopback_url(options.get("endpoint_url") or ""):
        return make_client(service, **direct)
    client = make_client(service, **options)
    if not is_loopback_url(client.meta.endpoint_url):
        return client
    client.close()
    return make_client(service, **direct)
