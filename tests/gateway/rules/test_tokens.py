"""Which tokens are accepted, with real keys and signatures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from turnout.gateway.rules.tokens import (
    MAX_AGE_S,
    RETRY_S,
    KeysNeededError,
    TokenKeys,
    TokenRules,
    check_token,
    keys_of_file,
    read_keys,
)
from turnout.plan.auth import JWT_ALGORITHMS

ISSUER = "https://login.example"
RULES = TokenRules(ISSUER, ("app", "other-app"), JWT_ALGORITHMS)
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
EC_KEYS = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, **more}


JWKS = {
    "keys": [
        public(RSA_KEY, "rsa"),
        public(STRANGER, "only-512", alg="RS512"),
        public(RSA_KEY, "to-encrypt", use="enc"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "", "e": ""},
        *(public(key, name) for name, key in EC_KEYS.items()),
    ]
}


@dataclass
class Issuer:
    """Counts how often its keys are read; `now` is the clock of their cache."""

    jwks: Mapping[str, Any] = field(default_factory=lambda: JWKS)
    now: float = 1000.0
    loads: int = 0

    def load(self) -> Mapping[str, Any]:
        self.loads += 1
        return self.jwks

    def keys(self) -> TokenKeys:
        return TokenKeys("the issuer", self.load, lambda: self.now)


def token(kid: str | None = "rsa", algorithm: str = "RS256", key: Any = RSA_KEY, **claims: Any) -> str:
    payload = {"iss": ISSUER, "aud": "app", "exp": time.time() + 3600, "sub": "ana", **claims}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, key, algorithm, headers=headers)


def check(made: str, rules: TokenRules = RULES, scheme: str = "Bearer") -> Mapping[str, Any] | None:
    keys = Issuer().keys()
    keys_are_read(keys)
    return check_token(f"{scheme} {made}", rules, keys)


def keys_are_read(keys: TokenKeys) -> None:
    with pytest.raises(KeysNeededError) as needed:
        keys.find("any")
    assert needed.value.keys is keys
    keys.refresh()


def test_valid_tokens_pass_with_their_claims() -> None:
    claims = check(token())
    assert claims is not None
    assert claims["sub"] == "ana"
    for algorithm in ("RS256", "RS384", "RS512"):
        assert check(token(algorithm=algorithm)) is not None
    for algorithm, key in EC_KEYS.items():
        assert check(token(algorithm, algorithm, key)) is not None
    assert check(token(aud=["unheard-of", "other-app"])) is not None
    assert check(token(aud=None, client_id="app")) is not None
    assert check(token(), scheme="bearer") is not None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"aud": "unheard-of"},
        {"aud": None},
        {"aud": []},
        {"aud": "unheard-of", "client_id": "app"},
        {"exp": time.time() - 1},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": time.time() + 1e8},
        {"iat": time.time() + 1e8},
    ],
)
def test_wrong_claims_are_rejected(claims: dict[str, Any]) -> None:
    assert check(token(**claims)) is None


def test_foreign_and_changed_signatures_are_rejected() -> None:
    assert check(token(key=STRANGER)) is None
    head, payload, signature = token().split(".")
    other = token(sub="root").split(".")[1]
    assert check(f"{head}.{other}.{signature}") is None
    assert check(f"{head}.{payload}.") is None
    assert check(f"{head}.{payload}") is None
    for text in ("", "x", "a.b.c", "..", "\N{LATIN SMALL LETTER E WITH ACUTE}.b.c"):
        assert check(text) is None
    assert check(token(), scheme="Basic") is None
    assert check_token(None, RULES, Issuer().keys()) is None
    assert check_token(token(), RULES, Issuer().keys()) is None  # without `Bearer`


def test_algorithms_cannot_be_confused() -> None:
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","kid":"rsa","typ":"JWT"}')
    body = token().split(".")[1].encode()
    import hashlib
    import hmac

    forged = jwt.utils.base64url_encode(hmac.digest(pem, head + b"." + body, hashlib.sha256))
    assert check((head + b"." + body + b"." + forged).decode()) is None
    unsigned = jwt.encode({"iss": ISSUER, "aud": "app", "exp": time.time() + 999}, None, "none", headers={"kid": "rsa"})
    assert check(unsigned) is None
    assert check(jwt.encode({"iss": ISSUER}, "secret" * 8, "HS256", headers={"kid": "secret"})) is None
    assert check(token("ES256", "ES384", EC_KEYS["ES384"])) is None
    assert check(token("only-512", "RS256", STRANGER)) is None
    assert check(token("only-512", "RS512", STRANGER)) is not None
    assert check(token("to-encrypt")) is None
    assert check(token(), TokenRules(ISSUER, ("app",), ("ES256",))) is None
    critical = jwt.encode({"iss": ISSUER}, RSA_KEY, "RS256", headers={"kid": "rsa", "crit": ["b64"]})
    assert check(critical) is None


def test_tokens_without_a_known_key_are_rejected() -> None:
    for kid in (None, "unheard-of", "broken", "secret", ""):
        assert check(token(kid)) is None


def test_keys_are_read_again_if_old_or_unknown_but_not_for_every_token() -> None:
    issuer = Issuer({"keys": [public(RSA_KEY, "rsa")]})
    keys = issuer.keys()
    keys_are_read(keys)
    issuer.jwks = {"keys": [public(STRANGER, "new")]}
    assert keys.find("new") is None, "the keys were read a moment ago"
    issuer.now += RETRY_S + 1
    assert keys.find("rsa") is not None
    keys_are_read(keys)
    assert (keys.find("new") is not None, keys.find("rsa"), issuer.loads) == (True, None, 2)
    for number in range(100):
        assert keys.find(f"made up {number}") is None
    keys.refresh()
    assert issuer.loads == 2
    issuer.now += MAX_AGE_S + 1
    with pytest.raises(KeysNeededError):
        keys.find("new")


def test_keys_are_kept_if_the_issuer_does_not_answer() -> None:
    issuer = Issuer()
    keys = issuer.keys()
    keys_are_read(keys)
    issuer.jwks = {"no": "keys"}
    issuer.now += MAX_AGE_S + 1
    keys.refresh()
    assert keys.find("rsa") is not None


def test_file_of_keys_is_read(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    keys = keys_of_file(file)
    keys.refresh()
    assert keys.find("rsa") is None
    file.write_text(json.dumps(JWKS))
    assert set(read_keys(json.loads(file.read_text()))) == {"rsa", "only-512", *EC_KEYS}
