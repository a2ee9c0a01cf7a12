"""Downloads files over HTTPS, from S3 and from Google Cloud Storage."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from turnout.conversion.errors import ConversionError
from turnout.conversion.sources import Fetched, Order
from turnout.loopback import is_loopback_url
from turnout.manifest.version_source import without_secrets
from turnout.system.files import file_digest

CHUNK_BYTES = 1 << 20
PATIENCE_S = 60.0


def download_url(order: Order) -> Fetched:
    """Download a file from a web server; its digest must be given, because nothing else pins it."""
    address = without_secrets(order.address)
    if not order.sha256:
        raise ConversionError(
            f"{address} is not pinned: another file may be there tomorrow",
            "Add --sha256 DIGEST, which `sha256sum FILE` prints.",
        )
    name = PurePosixPath(unquote(urlsplit(order.address).path)).name
    if not name or name in {".", ".."}:
        raise ConversionError(f"{address} names no file")
    order.remark(f"downloading {address}")
    target = order.target / name
    fetch_file(order.address, target)
    check_digest(target, order.sha256, address)
    return Fetched(target, address)


def check_digest(path: Path, sha256: str, address: str) -> None:
    """Raise a ConversionError if a file does not have the required digest; empty checks nothing."""
    if sha256 and (result := file_digest(path)) != sha256.lower():
        raise ConversionError(
            f"{address} has sha256 {result}, not {sha256.lower()}", "Check the address and the digest."
        )


def fetch_file(url: str, target: Path, headers: Mapping[str, str] | None = None) -> None:
    """Write a URL's body into a file.

    Raises:
        ConversionError: the server does not answer, or answers with an error.
    """
    with open_url(url, headers) as response:
        expected = response.headers.get("content-length")
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        try:
            with target.open("wb") as file:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    size += len(chunk)
        except (TimeoutError, urllib.error.URLError) as error:
            raise ConversionError(f"{without_secrets(url)} cannot be read: {error}", code=1) from error
        if expected is not None and expected.isdigit() and int(expected) != size:
            message = f"{without_secrets(url)} ended after {size:,} of {int(expected):,} bytes"
            raise ConversionError(message, "Try again.", code=1)


def fetch_json(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """Return the JSON at a URL."""
    with open_url(url, headers) as response:
        try:
            return json.loads(response.read())
        except ValueError as error:
            raise ConversionError(f"{without_secrets(url)} did not return JSON", code=1) from error


def open_url(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """Return the open response of a URL, https or http only; loopback addresses are accessed without a proxy."""
    request = urllib.request.Request(url, headers={"user-agent": "turnout"})  # noqa: S310
    for name, value in (headers or {}).items():
        request.add_unredirected_header(name, value)  # send a token to this server only, not to where it redirects
    handlers = [urllib.request.ProxyHandler({})] if is_loopback_url(url) else []
    opener = urllib.request.build_opener(*handlers)
    try:
        return opener.open(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        with error:
            hint = "Check the address and your access." if error.code in {401, 403, 404} else ""
        message = f"{without_secrets(url)} answered {error.code} {error.reason}"
        raise ConversionError(message, hint, code=2 if error.code < 500 else 1) from error
    except (OSError, ValueError) as error:
        raise ConversionError(f"{without_secrets(url)} cannot be reached: {error}", code=1) from error


def download_s3(order: Order) -> Fetched:
    """Download one object, or all objects below a prefix that ends with `/`, with boto3's credentials."""
    from turnout.aws_client import check_boto3, make_aws_client
    from turnout.extras import MissingPackageError

    try:
        check_boto3(order.address)
    except MissingPackageError as error:
        raise ConversionError(error.message, error.hint) from error
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = order.address.removeprefix("s3://").partition("/")
    if not bucket or not key or "@" in bucket:
        hint = "Credentials come from AWS's variables and files, never from the address." if "@" in bucket else ""
        raise ConversionError(f"{without_secrets(order.address)} must be s3://bucket/key", hint)
    order.remark(f"downloading {order.address}")
    try:
        client = make_aws_client("s3")
        if key.endswith("/"):
            return _s3_folder(order, client, bucket, key)
        head = client.head_object(Bucket=bucket, Key=key)
        version = head.get("VersionId")
        target = order.target / PurePosixPath(key).name
        extra = {"VersionId": version} if version else {}
        client.download_file(bucket, key, str(target), ExtraArgs=extra)
        for name in external_names(target):
            beside = str(PurePosixPath(key).parent / name)
            (target.parent / name).parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, beside, str(target.parent / name))
    except (BotoCoreError, ClientError) as error:
        raise ConversionError(
            f"{order.address} cannot be read: {error}", "Check the address and your access."
        ) from error
    check_digest(target, order.sha256, order.address)
    return Fetched(target, order.address, version or head["ETag"].strip('"'))


def _s3_folder(order: Order, client: Any, bucket: str, prefix: str) -> Fetched:
    root = order.target / PurePosixPath(prefix).name
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for row in page.get("Contents", ()):
            if not row["Key"].endswith("/"):
                target = safe_path(root, row["Key"].removeprefix(prefix), order.address)
                target.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, row["Key"], str(target))
    if not root.is_dir():
        raise ConversionError(f"{order.address} is empty", "Check the address.")
    return Fetched(root, order.address)


def external_names(path: Path) -> tuple[str, ...]:
    """Return the files with an ONNX file's weights, within its folder."""
    if path.suffix != ".onnx":
        return ()
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:
        return ()
    rows = (row for tensor in model.graph.initializer for row in tensor.external_data)
    names = dict.fromkeys(row.value for row in rows if row.key == "location")
    return tuple(name for name in names if ".." not in PurePosixPath(name).parts and not name.startswith("/"))


def safe_path(root: Path, name: str, address: str) -> Path:
    """Return a file below a folder; raise a ConversionError for a name that leads out of it."""
    parts = PurePosixPath(name)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise ConversionError(f"{address} has a file named {name!r}, which leads out of its folder")
    return root / parts


def download_gs(order: Order) -> Fetched:
    """Download one object through the JSON API, with the token in GOOGLE_OAUTH_ACCESS_TOKEN if it is set."""
    bucket, _, name = order.address.removeprefix("gs://").partition("/")
    if not bucket or not name or name.endswith("/"):
        raise ConversionError(f"{order.address} must be gs://bucket/object")
    base = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
    base = base if "://" in base else f"http://{base}"
    token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = f"{base.rstrip('/')}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
    order.remark(f"downloading {order.address}")
    try:
        generation = str(fetch_json(url, headers)["generation"])
        target = order.target / PurePosixPath(name).name
        fetch_file(f"{url}?alt=media&generation={generation}", target, headers)
    except ConversionError as error:
        if token:
            raise
        hint = "For a private bucket: GOOGLE_OAUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)"
        raise ConversionError(f"{order.address} cannot be read: {error.message}", hint, code=error.code) from error
    except KeyError as error:
        raise ConversionError(f"{order.address}: the server did not say which generation it is", code=1) from error
    check_digest(target, order.sha256, order.address)
    return Fetched(target, order.address, generation)
