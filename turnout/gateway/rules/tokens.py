"""Checks JSON Web Tokens for `auth: jwt`: signature, issuer, audience and time, against cached keys.

PyJWT, from the extra `turnout[jwt]`, does the cryptography. The key is chosen only by the token's `kid`. The algorithm
must be one that the stage allows and that fits the key. None of them is symmetric, so no public key can be used as a
secret. Source: API Gateway Developer Guide, "JWT authorizers"; RFC 8725, "JSON Web Token Best Current Practices".
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

log = logging.getLogger("turnout.gateway")

MAX_AGE_S = 300.0
"""How long keys are used before they are read again."""

RETRY_S = 30.0
"""A token with an unknown `kid` causes the keys to be read again, at most this often."""

FETCH_TIMEOUT_S = 5.0
"""Time limit of one document, from the connection to its last byte."""

READ_TIMEOUT_S = 12.0
"""How long a request waits for its issuer's keys: discovery and keys are two documents."""

MOST_BYTES = 1_000_000
DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which tokens a document accepts.

    Args:
        issuer: the `iss`.
        audiences: the `aud`, or else the `client_id`, must be one of these.
        algorithms: allowed signature algorithms.
    """

    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]


class KeysNeededError(Exception):
    """A token cannot be checked before the keys are read; the caller must call `refresh` and check again."""

    def __init__(self, keys: TokenKeys) -> None:
        super().__init__()
        self.keys = keys


class TokenKeys:
    """An issuer's keys, read when they are needed.

    Args:
        name: name of the issuer or the file, for messages.
        load: reads the JWKS, which takes a while.
        clock: monotonic seconds.
    """

    def __init__(
        self, name: str, load: Callable[[], Mapping[str, Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, PublicKey] = {}
        self._tried = float("-inf")

    def find(self, kid: str) -> PublicKey | None:
        """Return the key with this id; None if the issuer has none.

        Raises:
            KeysNeededError: the keys must be read first.
        """
        key, age_s = self._keys.get(kid), self._clock() - self._tried
        if key is not None and self._lock.locked():
            return key  # another request reads the keys at this moment
        if age_s > MAX_AGE_S or (key is None and age_s > RETRY_S):
            raise KeysNeededError(self)
        return key

    def refresh(self) -> None:
        """Read the keys again; if that fails, keep the old ones."""
        with self._lock:
            if self._clock() - self._tried <= RETRY_S:
                return  # another request has fetched the keys in the meantime
            try:
                self._keys = read_keys(self._load())
            except Exception as error:
                log.warning("the keys of %s cannot be read: %s", self._name, error)
            finally:
                self._tried = self._clock()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of an issuer, and its algorithms."""

    key: Any
    algorithms: frozenset[str]


_OF_RSA = frozenset({"RS256", "RS384", "RS512"})
_OF_CURVE = {"P-256": frozenset({"ES256"}), "P-384": frozenset({"ES384"}), "P-521": frozenset({"ES512"})}


def read_keys(jwks: Mapping[str, Any]) -> dict[str, PublicKey]:
    """Return `kid` -> key of keys that verify signatures; other kinds are left out."""
    import jwt

    keys: dict[str, PublicKey] = {}
    for jwk in jwks["keys"]:
        if not isinstance(jwk, dict):
            continue
        fitting = _OF_RSA if jwk.get("kty") == "RSA" else _OF_CURVE.get(str(jwk.get("crv")), frozenset())
        algorithms = fitting & {jwk["alg"]} if "alg" in jwk else fitting
        kid = jwk.get("kid")
        if not algorithms or not isinstance(kid, str) or jwk.get("use", "sig") != "sig":
            continue
        try:
            keys[kid] = PublicKey(jwt.PyJWK.from_dict(jwk).key, algorithms)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.warning("the key %r cannot be used: %s", kid, error)
    return keys


def is_installed() -> bool:
    """Whether tokens can be checked."""
    return find_spec("jwt") is not None and find_spec("cryptography") is not None


def keys_of_file(path: Path) -> TokenKeys:
    """Return the keys in a JWKS file."""

    def load() -> Mapping[str, Any]:
        keys: Mapping[str, Any] = json.loads(path.read_bytes())
        return keys

    return TokenKeys(path.name, load)


def keys_of_issuer(issuer: str, clock: Callable[[], float] = time.monotonic) -> TokenKeys:
    """Return the keys that an issuer publishes."""

    def load() -> Mapping[str, Any]:
        described = fetch_json(f"{issuer.rstrip('/')}{DISCOVERY}")
        if described.get("issuer") != issuer:
            raise ValueError(f"its document names the issuer {described.get('issuer')!r}")
        return fetch_json(str(described["jwks_uri"]))

    return TokenKeys(issuer, load, clock)


def fetch_json(url: str) -> Mapping[str, Any]:
    """Return the JSON object at a URL.

    Raises:
        ValueError: the URL does not start with https://, or its content is too large or not an object.
    """
    if not url.startswith("https://"):
        raise ValueError(f"{url} does not begin with https://")
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class SecureRedirects(HTTPRedirectHandler):
        """Follows redirects only to https:// addresses."""

        def redirect_request(self, *arguments: Any) -> Request | None:
            followed = super().redirect_request(*arguments)
            if followed is not None and not followed.full_url.startswith("https://"):
                raise ValueError(f"{url} redirects to {followed.full_url}, which does not begin with https://")
            return followed

    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - https, as checked above
    until = time.monotonic() + FETCH_TIMEOUT_S
    data = b""
    with build_opener(SecureRedirects).open(request, timeout=FETCH_TIMEOUT_S) as response:
        while len(data) <= MOST_BYTES and (part := response.read1(MOST_BYTES)):
            data += part
            if time.monotonic() > until:  # the timeout above is that of each part
                raise ValueError(f"{url} takes longer than {FETCH_TIMEOUT_S:g} s")
    document = json.loads(data) if len(data) <= MOST_BYTES else None
    if not isinstance(document, dict):
        raise ValueError(f"{url} holds no object of at most {MOST_BYTES:,} bytes")  # noqa: TRY004 - one kind of error
    return document


def check_token(authorization: str | None, rules: TokenRules, keys: TokenKeys) -> Mapping[str, Any] | None:
    """Return the claims of a token, or None if it is rejected.

    Args:
        authorization: the request's header.
        rules: rules of the stage.
        keys: keys of the issuer.

    Raises:
        KeysNeededError: the keys must be read first.
    """
    import jwt

    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in rules.algorithms or not isinstance(kid, str) or "crit" in header:
            return None
        key = keys.find(kid)
        if key is None or algorithm not in key.algorithms:
            return None
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=rules.issuer,
            options={"require": ["exp", "iss"], "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    named = claims.get("aud", claims.get("client_id"))
    audiences = named if isinstance(named, list) else [named]
    return claims if any(audience in rules.audiences for audience in audiences) else None
