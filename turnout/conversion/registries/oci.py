"""Files of OCI registries: `oci://host/repository:tag` or `@sha256:...`, as ORAS pushes them."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from turnout.conversion.downloads import check_digest, fetch_file, fetch_json, safe_path
from turnout.conversion.errors import ConversionError
from turnout.conversion.registries.registry_login import PASSWORD, USERNAME, RegistryLogin, find_login
from turnout.conversion.sources import Fetched, Order
from turnout.loopback import is_loopback_url
from turnout.system.files import file_digest

ADDRESS = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w][\w.-]{0,127}))"
)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
"""The annotation with a file's name. Source: OCI image specification, "Annotations"."""

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Registry:
    """A repository of a registry.

    Args:
        base: the URL of its API, `https://host/v2/name`.
        headers: with the token, where the registry asks for one.
    """

    base: str
    headers: Mapping[str, str]


def download_model(order: Order) -> Fetched:
    """Return the files of an artifact; the tag is resolved to the manifest's digest once."""
    match = ADDRESS.fullmatch(order.address)
    if match is None:
        raise ConversionError(
            f"{order.address} must be oci://host/repository:tag or oci://host/repository@sha256:DIGEST"
        )
    scheme = "http" if is_loopback_url(f"http://{match['host']}") else "https"
    base = f"{scheme}://{match['host']}/v2/{match['name']}"
    order.remark(f"downloading {order.address}")
    first = f"{base}/manifests/{match['digest'] or match['tag']}"
    access = _find_access(first, match["host"], match["name"])
    registry = Registry(base, access.headers)
    target = order.target / "manifest.json"
    with _explained(access):
        fetch_file(first, target, {**registry.headers, "accept": MANIFEST})
    if match["digest"]:
        check_digest(target, match["digest"].removeprefix("sha256:"), order.address)
    revision = f"sha256:{file_digest(target)}"
    layers = _layers(target.read_bytes(), order.address)
    target.unlink()
    for name, digest in layers.items():
        path = safe_path(order.target, name, order.address)
        fetch_file(f"{base}/blobs/{digest}", path, registry.headers)
        check_digest(path, digest.removeprefix("sha256:"), f"{order.address}: {name}")
    path = order.target / next(iter(layers)) if len(layers) == 1 else order.target
    if len(layers) == 1:
        check_digest(path, order.sha256, order.address)
    return Fetched(path, order.address, revision)


def _layers(content: bytes, address: str) -> dict[str, str]:
    """Return name -> digest of the files in a manifest."""
    try:
        manifest: Any = json.loads(content)
        rows = [(row.get("annotations") or {}, str(row["digest"])) for row in manifest["layers"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{address} is not an artifact with files: its manifest has no layers"
        raise ConversionError(message, "An index or an image is not supported. Push the file: oras push ...") from error
    named = {str(annotations[TITLE]): digest for annotations, digest in rows if TITLE in annotations}
    if not named or any(not re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in named.values()):
        raise ConversionError(
            f"{address} has no layer with a file's name ({TITLE})", "Push the file with ORAS: oras push"
        )
    return named


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """How the files are read.

    Args:
        host: the registry.
        headers: with the authorization, if there is one.
        asked: whether the registry asked for one.
        login: the login that was used, or None.
    """

    host: str
    headers: Mapping[str, str]
    asked: bool = False
    login: RegistryLogin | None = None


@contextmanager
def _explained(access: RegistryAccess) -> Iterator[None]:
    """Say in an error of access which login was used; never the password."""
    try:
        yield
    except ConversionError as error:
        if not (access.asked and re.search(r" answered 40[13] ", error.message)):
            raise
        if access.login is None:
            hint = f"Set {USERNAME} and {PASSWORD}, or: docker login {access.host}"
            raise ConversionError(f"{access.host} needs a user name and a password", hint) from error
        message = f"{access.host} rejects the user name and password of {access.login.origin}"
        raise ConversionError(message, f"Check them: {error.message}") from error


def _find_access(url: str, host: str, name: str) -> RegistryAccess:
    """Return the header that a registry asks for: name and password, or a token of the service that it names."""
    challenge = _challenge(url)
    if not challenge:
        return RegistryAccess(host, {})
    login = find_login(host)
    basic = {"authorization": login.header} if login else {}
    kind, _, rest = challenge.partition(" ")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = fields.get("realm", "")
    if kind.lower() != "bearer" or not realm:
        return RegistryAccess(host, basic, asked=True, login=login)
    if not realm.startswith("https://") and not is_loopback_url(realm):
        raise ConversionError(f"the registry sends tokens over an insecure address: {realm}", code=1)
    query = urllib.parse.urlencode({"service": fields.get("service", ""), "scope": f"repository:{name}:pull"})
    with _explained(RegistryAccess(host, {}, asked=True, login=login)):
        answer = fetch_json(f"{realm}?{query}", basic)
    token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
    if not token:
        raise ConversionError(f"{realm} answered without a token", code=1)
    return RegistryAccess(host, {"authorization": f"Bearer {token}"}, asked=True, login=login)


def _challenge(url: str) -> str:
    """Return what a registry asks of an anonymous request, a token before a password; empty if it answers."""
    request = urllib.request.Request(url, headers={"user-agent": "turnout", "accept": MANIFEST})  # noqa: S310
    handlers = [urllib.request.ProxyHandler({})] if is_loopback_url(url) else []
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=PATIENCE_S):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            asked = error.headers.get_all("www-authenticate") or ["Basic"]
            return min(asked, key=lambda text: not text.lower().startswith("bearer ")) if error.code == 401 else ""
    except (OSError, ValueError):
        return ""  # the request that follows reports it
