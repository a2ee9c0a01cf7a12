"""Contradictions between the keys that define who may call a stage, and from where."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.manifest.access import Consumer, Cors, Domain, RequestQuota
from turnout.manifest.parser import Manifest, parse_manifest
from turnout.problems import ProblemsError

BEFORE = """\
platform: acme
models:
  iris: {versions: {v1: {artifact: a.onnx}}}
  spam: {versions: {v1: {artifact: b.onnx}}}
stages:
"""


def parse(stage: str) -> Manifest:
    text = f"{BEFORE}  prod: {{serve: {{'*': newest}}, {stage}}}\n"
    return parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")


def message_of(stage: str) -> str:
    with pytest.raises(ProblemsError) as caught:
        parse(stage)
    return str(caught.value)


def test_cors_is_read_with_its_defaults() -> None:
    cors = parse("cors: {origins: [https://a.example]}").stages[0].cors
    assert cors == Cors(("https://a.example",))
    assert cors is not None
    assert (cors.max_age_s, cors.credentials, cors.methods) == (600, False, ("GET", "HEAD", "POST"))
    full = "cors: {origins: [http://localhost:3000], headers: [x-a], methods: [POST], max_age_s: 5, credentials: true}"
    assert parse(full).stages[0].cors == Cors(("http://localhost:3000",), ("x-a",), ("POST",), 5, True)


@pytest.mark.parametrize(
    ("cors", "message"),
    [
        ('{origins: ["*"], credentials: true}', "stages.prod.cors.credentials: cannot be true with"),
        ('{origins: ["*", "https://a.example"]}', "stages.prod.cors.origins: `*` allows every origin, so it must"),
        ("{origins: [https://a.example/]}", "stages.prod.cors.origins.0: must be an origin such as"),
        ("{origins: [https://A.example]}", "must be an origin such as"),
        ("{origins: ['https://*.example']}", "without wildcards"),
        ("{origins: ['null']}", "must be an origin such as"),
        ("{origins: [a.example]}", "must be an origin such as"),
        ("{origins: ['https://a.example:443']}", "names the default port, which browsers leave out"),
        ("{origins: ['http://a.example:80']}", "Write http://a.example."),
        ("{origins: []}", "stages.prod.cors.origins"),
        ("{}", "`origins` is missing"),
        ("{origins: [https://a.example], methods: [TRACE]}", "stages.prod.cors.methods.0: must be one of DELETE, GET"),
        ("{origins: [https://a.example], max_age_s: -1}", "max_age_s: must be 0-86400"),
        ("{origins: [https://a.example], headers: ['a b']}", "must be a header's name"),
        ("{origins: [https://a.example], headers: ['*'], credentials: true}", "`*` is not a wildcard with"),
        (f"{{origins: [{', '.join(f'https://{n}.a-long-name.example' for n in range(20))}]}}", "at most 512 are"),
    ],
)
def test_invalid_cors_is_rejected_with_its_place(cors: str, message: str) -> None:
    assert message in message_of(f"cors: {cors}")


KEYED = "auth: api_key, consumers: "


def test_consumers_are_read_with_their_defaults() -> None:
    assert parse(f"{KEYED}{{web-app: {{}}}}").stages[0].consumers == (Consumer("web-app"),)
    full = (
        "{a: {models: [iris], throttle: {rate: 1.5, burst: 3}, quota: {requests: 9, period: week}, "
        "expires: '2027-01-31', keys: [old, new]}}"
    )
    assert parse(f"{KEYED}{full}").stages[0].consumers == (
        Consumer("a", ("iris",), 1.5, 3, RequestQuota(9, "week"), "2027-01-31", ("old", "new")),
    )


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("consumers: {a: {}}", "stages.prod.consumers: require `auth: api_key`"),
        (f"{KEYED}{{owner: {{}}}}", "stages.prod.consumers.owner: `owner` is a reserved word"),
        (f"{KEYED}{{Web: {{}}}}", "a consumer's name must be lower-case words"),
        (f"{KEYED}{{a: {{models: [irsi]}}}}", "consumers.a.models.0: unknown model `irsi`: did you mean `iris`"),
        (f"{KEYED}{{a: {{models: []}}}}", "stages.prod.consumers.a.models"),
        (f"{KEYED}{{a: {{expires: '2026-02-30'}}}}", "there is no day 2026-02-30"),
        (f"{KEYED}{{a: {{expires: tomorrow}}}}", "must be a day such as"),
        (f"{KEYED}{{a: {{expires: 2027-01-31}}}}", 'Write it in quotes: "2027-01-31".'),
        (f"{KEYED}{{a: {{quota: {{requests: 5}}}}}}", "`period` is missing"),
        (f"{KEYED}{{a: {{quota: {{requests: 5, period: hour}}}}}}", "must be one of day, week, month"),
        (f"{KEYED}{{a: {{throttle: {{rate: 0, burst: 1}}}}}}", "must be above 0"),
        (f"{KEYED}{{a: {{keys: [k1, k2, k3]}}}}", "stages.prod.consumers.a.keys"),
        (f"{KEYED}{{a: {{keys: [k1, k1]}}}}", "stages.prod.consumers.a.keys"),
        (f"{KEYED}{{a: {{mdoels: [iris]}}}}", "did you mean `models`?"),
    ],
)
def test_invalid_consumers_are_rejected_with_their_place(stage: str, message: str) -> None:
    assert message in message_of(stage)


def with_domain(fields: str) -> Manifest:
    text = f"domain: {fields}\n{BEFORE}  prod: {{serve: {{'*': newest}}}}\n"
    return parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")


def test_domain_is_read_with_its_defaults() -> None:
    assert with_domain("{name: ml.example.com}").domain == Domain("ml.example.com")
    assert with_domain("{name: ml.example.com, base_path: a/b, create: false}").domain == Domain(
        "ml.example.com", base_path="a/b", create=False
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("{}", "`name` is missing"),
        ("{name: 'https://ml.example.com'}", "domain.name: must be a host name in lower case"),
        ("{name: ML.example.com}", "must be a host name in lower case"),
        ("{name: 'ml.example.com:443'}", "must be a host name in lower case"),
        ("{name: localhost}", "must be a host name in lower case"),
        ("{name: ml.example.com, base_path: /a}", "domain.base_path: must be path segments"),
        ("{name: ml.example.com, base_path: a/}", "domain.base_path: must be path segments"),
        ("{name: ml.example.com, certificate_arn: x}", "must be the ARN of a certificate"),
        ("{name: ml.example.com, tls_policy: SSL_3}", "must be TLS_1_2, TLS_1_0"),
        ("{name: ml.example.com, zone: x}", "unknown key `zone`"),
    ],
)
def test_invalid_domain_is_rejected_with_its_place(fields: str, message: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        with_domain(fields)
    assert message in str(caught.value)


def test_stages_with_the_same_issuer_read_its_keys_from_the_same_place() -> None:
    """A server keeps one set of keys for each issuer."""
    first = "auth: jwt, jwt: {issuer: https://id.example, audience: [a], jwks: a.json}}"
    same = f"{first}\n  dev: {{serve: {{'*': newest}}, {first[:-1]}"
    assert len(parse(same).stages) == 2
    for jwks in (", jwks: b.json", ""):
        other = f"auth: jwt, jwt: {{issuer: https://id.example, audience: [a]{jwks}}}"
        text = message_of(f"{first}\n  dev: {{serve: {{'*': newest}}, {other}")
        assert "stages.dev.jwt: stage prod reads the keys of the same issuer from another place" in text
        assert "Set the same `jwks` in both stages, or in neither." in text
    assert len(parse(f"{first}\n  dev: {{serve: {{'*': newest}}, auth: none").stages) == 2
