"""The values that a valid manifest becomes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.builders.work import count_calls
from turnout.layout import schema_path
from turnout.manifest.parser import (
    Agreement,
    Budget,
    CallNode,
    Capture,
    Case,
    EnsembleNode,
    Judgement,
    Jwt,
    Manifest,
    OutputRule,
    Position,
    Prices,
    Routing,
    SequenceNode,
    Slo,
    Sticky,
    SwitchNode,
    Throttle,
    Warm,
    parse_manifest,
)
from turnout.problems import ProblemsError
from turnout.yaml_text.quoting import flow

WHOLE = """\
platform: acme
open_inference: direct
defaults:
  architecture: x86_64
  memory_mb: 2048
  timeout_s: 20
  canary:
    steps: [5, 25]
    bake_minutes: 2
    confidence: 0.99
    agreement: {percent: 5, floor: 0.98, rules: {label: equal, y: {cosine: 0.99}}}
models:
  iris:
    description: Iris species.
    versions:
      v1: {artifact: models/iris/v1/model.onnx}
      v2:
        artifact: s3://bucket/iris/v2.onnx
        sha256: 5F1C5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c5f1c
        architecture: arm64
        memory_mb: 512
        timeout_s: 5
        warm: {provisioned: 2}
        reserved_concurrency: 2
        transform: models/iris/v2/transform.py
        requirements: [pillow==12.0.0, "scipy[all]>=1.14,<2"]
        examples: models/iris/v2/examples.json
        breaking: true
        description: Boosted trees.
        ephemeral_storage_mb: 1024
        environment: {VOCABULARY: large}
        tracing: true
        slo: {p99_ms: 200, error_percent: 0.5}
        capture: {percent: 1, redact: [age]}
    routing:
      sticky: {header: X-User-Id}
      shadow: {version: v2, percent: 5}
      fallback: v1
  bert-base:
    versions:
      1-0: {artifact: b.onnx, warm: {snap_start: true}}
stages:
  dev:
    serve: {iris: v2, "*": newest}
  prod:
    serve: {bert-base: 1-0}
    weights: {iris: {v1: 90.5, v2: 9.5}}
    canary:
      percent: 10
      serve: {iris: v2}
      release: true
      strategy: linear
      step_percent: 20
      alarms: [errors]
      auto_rollback: false
    slo: {p99_ms: 500}
    version_override: true
    auth: api_key
    throttle: {rate: 100, burst: 200}
"""


def parse(text: str) -> Manifest:
    return parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")


def test_every_key_of_the_manifest_is_read() -> None:
    manifest = parse(WHOLE)
    assert manifest.platform == "acme"
    iris, bert = manifest.models
    assert (iris.name, iris.description) == ("iris", "Iris species.")
    assert iris.routing == Routing(Sticky("header", "x-user-id"), "v2", 5.0, "v1")
    v1, v2 = iris.versions
    assert (v1.architecture, v1.memory_mb, v1.timeout_s) == ("x86_64", 2048, 20), "the defaults are merged in"
    assert (v1.sha256, v1.warm, v1.breaking) == ("", Warm(), False)
    assert v2.artifact == "s3://bucket/iris/v2.onnx"
    assert v2.sha256 == "5f1c" * 16
    assert (v2.architecture, v2.memory_mb, v2.timeout_s, v2.warm) == ("arm64", 512, 5, Warm(provisioned=2))
    assert (v2.reserved_concurrency, v1.reserved_concurrency) == (2, None), "reserved concurrency has no default"
    assert (v2.transform, v2.examples) == ("models/iris/v2/transform.py", "models/iris/v2/examples.json")
    assert v2.requirements == ("pillow==12.0.0", "scipy[all]>=1.14,<2")
    assert (v2.breaking, v2.description) == (True, "Boosted trees.")
    assert bert.versions[0].warm == Warm(snap_start=True)
    assert not bert.routing
    assert (v2.ephemeral_storage_mb, v2.environment, v2.tracing) == (1024, {"VOCABULARY": "large"}, True)
    assert (v2.slo, v2.capture) == (Slo(200, 0.5), Capture(1, ("age",)))
    assert (v1.ephemeral_storage_mb, v1.environment, v1.tracing, v1.slo, v1.capture) == (512, {}, False, Slo(), None)
    dev, prod = manifest.stages
    assert dict(dev.serve) == {"iris": "v2", "bert-base": "1-0"}
    assert (dev.canary, dev.auth, dev.throttle, dict(dev.weights)) == (None, "none", None, {})
    assert dict(prod.serve) == {"bert-base": "1-0"}
    assert {model: dict(shares) for model, shares in prod.weights.items()} == {"iris": {"v1": 90.5, "v2": 9.5}}
    assert prod.canary is not None
    assert (prod.canary.percent, dict(prod.canary.serve), prod.canary.release) == (10.0, {"iris": "v2"}, True)
    assert (prod.auth, prod.throttle) == ("api_key", Throttle(100.0, 200))
    assert (prod.slo, prod.version_override, prod.jwt) == (Slo(p99_ms=500), True, None)
    assert manifest.open_inference == "direct"
    agreement = Agreement(5, 0.98, {"label": OutputRule("equal"), "y": OutputRule("cosine", 0.99)})
    assert manifest.judgement == Judgement("canary", (5, 25), bake_minutes=2, confidence=0.99, agreement=agreement)
    assert prod.canary.judgement == Judgement("linear", (), 20, 2, 0.99, ("errors",), False, agreement), "key by key"


@pytest.mark.parametrize(
    ("text", "sticky"),
    [
        ("{header: X-User-Id}", Sticky("header", "x-user-id")),
        ("{query: userId}", Sticky("query", "userId")),
        ("{body: parameters.user_id}", Sticky("body", "parameters.user_id")),
        ("{api_key: true}", Sticky("api_key")),
    ],
)
def test_every_kind_of_stickiness_is_read(text: str, sticky: Sticky) -> None:
    manifest = parse(WHOLE.replace("{header: X-User-Id}", text))
    assert manifest.model("iris").routing.sticky == sticky


def test_stage_with_tokens_has_their_issuer() -> None:
    jwt = "auth: jwt\n    jwt: {issuer: https://login.example.com, audience: [a, b]}"
    prod = parse(WHOLE.replace("auth: api_key", jwt)).stages[1]
    assert (prod.auth, prod.jwt) == ("jwt", Jwt("https://login.example.com", ("a", "b")))


def test_every_key_of_a_graph_is_read() -> None:
    graph = """
  pick:
    graph:
      switch:
        input: kind
        cases:
          - {equals: rose, then: {model: iris, version: v1, inputs: {X: x}, outputs: {y: z}}}
        otherwise:
          sequence:
            - {model: bert-base}
            - ensemble: [{model: iris}, {model: iris, version: v2}]
              combine: {y: mean, "*": vote}
  all:
    graph: {ensemble: [{model: iris}, {model: pick}], combine: concatenate}
  low:
    graph:
      switch:
        input: k
        cases: [{below: 1, then: {model: iris}}, {above: 2.5, then: {model: iris}}]
        otherwise: {model: iris}
stages:"""
    manifest = parse(WHOLE.replace("\nstages:", graph))
    iris = CallNode("iris")
    assert manifest.model("pick").graph == SwitchNode(
        "kind",
        (Case("equals", "rose", CallNode("iris", "v1", {"X": "x"}, {"y": "z"})),),
        SequenceNode((CallNode("bert-base"), EnsembleNode((iris, CallNode("iris", "v2")), {"y": "mean", "*": "vote"}))),
    )
    assert manifest.model("all").graph == EnsembleNode((iris, CallNode("pick")), {"*": "concatenate"})
    assert manifest.model("low").graph == SwitchNode("k", (Case("below", 1, iris), Case("above", 2.5, iris)), iris)
    assert manifest.model("pick").versions == ()
    assert "pick" not in manifest.stages[0].serve


def test_smallest_manifest_has_the_defaults() -> None:
    manifest = parse('models: {m: {versions: {v1: {artifact: m.onnx}}}}\nstages: {dev: {serve: {"*": newest}}}\n')
    assert manifest.platform == "turnout"
    version = manifest.model("m").version("v1")
    assert (version.architecture, version.memory_mb, version.timeout_s) == ("arm64", 1024, 15)
    assert manifest.path == Path("models.yaml").absolute()


def test_sample_manifest_is_parsed(root: Path) -> None:
    manifest = parse_manifest((root / "models.yaml").read_bytes(), path=root / "models.yaml", source="models.yaml")
    assert [stage.name for stage in manifest.stages] == ["dev", "prod"]
    assert manifest.path == root / "models.yaml"


def test_newest_is_the_last_version_listed() -> None:
    text = 'models: {m: {versions: {v9: {artifact: a}, v1: {artifact: b}}}}\nstages: {dev: {serve: {"*": newest}}}\n'
    assert parse(text).stages[0].serve == {"m": "v1"}


def test_version_names_that_look_like_numbers_or_dates_stay_text() -> None:
    versions = "{010: {artifact: a}, 2024-01-01: {artifact: b}, 1e3: {artifact: c}, on: {artifact: d}}"
    text = f'models: {{m: {{versions: {versions}}}}}\nstages: {{dev: {{serve: {{m: "010"}}}}}}\n'
    manifest = parse(text)
    assert [version.name for version in manifest.model("m").versions] == ["010", "2024-01-01", "1e3", "on"]
    assert manifest.stages[0].serve == {"m": "010"}


def test_floats_with_an_integer_value_are_integers() -> None:
    version = parse(WHOLE.replace("memory_mb: 512", "memory_mb: 512.0")).model("iris").version("v2")
    assert version.memory_mb == 512
    assert type(version.memory_mb) is int


def test_position_is_that_of_the_nearest_existing_key() -> None:
    manifest = parse(WHOLE)
    v2 = ("models", "iris", "versions", "v2")
    assert manifest.position_of((*v2, "memory_mb")) == Position(21, 9)
    assert manifest.position_of((*v2, "nothing", "here")) == Position(17, 7)
    assert manifest.position_of(("nothing",)) == Position(1, 1)


def test_unknown_names_are_key_errors() -> None:
    manifest = parse(WHOLE)
    with pytest.raises(KeyError):
        manifest.model("nobody")
    with pytest.raises(KeyError):
        manifest.model("iris").version("v9")


# The schema and the values stay in sync: a key that is added to only one of them fails here.

OTHER: Mapping[str, Any] = {
    "platform": "other",
    "architecture": "x86_64",
    "memory_mb": 777,
    "timeout_s": 7,
    "artifact": "other.onnx",
    "sha256": "ab" * 32,
    "address": "other.skops",
    "revision": "other",
    "converter": "other",
    "date": "other",
    "report": "other.json",
    "kms_key_arn": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "resources": 777,
    "stages": 77,
    "code_storage_gb": 7,
    "concurrency": 7,
    "integration_timeout_s": 60,
    "provisioned": 7,
    "reserved_concurrency": 3,
    "snap_start": True,
    "transform": "other.py",
    "requirements": ["other"],
    "examples": "other.json",
    "breaking": True,
    "description": "Other.",
    "header": "x-other",
    "version": "v1",
    "fallback": "v2",
    "percent": 77,
    "release": True,
    "auth": "iam",
    "strategy": "all_at_once",
    "step_percent": 7,
    "steps": [7],
    "bake_minutes": 7,
    "confidence": 0.7,
    "alarms": ["other"],
    "auto_rollback": False,
    "floor": 0.7,
    "open_inference": "off",
    "ephemeral_storage_mb": 777,
    "tracing": True,
    "runtime": "python",
    "p99_ms": 7,
    "error_percent": 7,
    "redact": ["other"],
    "query": "other",
    "api_key": True,
    "body": "other",
    "version_override": True,
    "issuer": "https://other",
    "audience": ["other"],
    "jwks": "other.json",
    "routes": "shared",
    "direct": True,
    "name": "other.example.com",
    "certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/2",
    "hosted_zone_id": "Z2",
    "base_path": "other/path",
    "tls_policy": "TLS_1_0",
    "create": False,
    "disable_execute_api": True,
    "models": ["m"],
    "requests": 7,
    "period": "week",
    "expires": "2027-01-31",
    "keys": ["other"],
    "origins": ["https://other.example"],
    "headers": ["x-other"],
    "methods": ["POST"],
    "max_age_s": 7,
    "credentials": True,
    "rate": 7.5,
    "burst": 7,
    "async": True,
    "time_to_live_s": 77,
    "max_attempts": 7,
    "max_body_mb": 7,
    "max_stored_mb": 7,
    "callback_hosts": ["other.example.com"],
    "allow_private_callbacks": True,
    "*": "newest",
    **dict.fromkeys((field.name for field in fields(Prices)), 7.5),
    "budget": 50,
    "pool": "small",
    "kind": "image",
    "height": 7,
    "width": 7,
    "scale": 7,
    "mean": [7],
    "std": [7],
    "layout": "NHWC",
    "color": "gray",
    "fit": "crop",
    "resample": "nearest",
}
"""Another value for every key that is a value and not a mapping."""

INSTEAD = {"query": "header", "api_key": "header", "body": "header", "auth": "jwt"}
"""Keys that exclude another key, which is removed."""

BESIDE: Mapping[str, Mapping[str, Any]] = {
    "step_percent": {"strategy": "linear"},
    "percent": {"floor": 0.5},
    "floor": {"percent": 5},
}
"""Keys that some keys require next to them."""

REQUIRED: Mapping[str, Mapping[str, Any]] = {"source": {"address": "model.skops"}, "input": {"kind": "image"}}
"""The required keys of a mapping."""

BASE: Mapping[str, Any] = {
    "models": {
        "m": {
            "versions": {
                "v1": {"artifact": "a.onnx", "transform": "a.py", "capture": {"percent": 1}},
                "v2": {"artifact": "b.onnx"},
                "v3": {"artifact": "c.onnx"},
            },
            "routing": {"sticky": {"header": "x-a"}, "shadow": {"version": "v3", "percent": 1}, "fallback": "v1"},
        },
        "n": {"versions": {"v1": {"artifact": "n.onnx"}}},
    },
    "stages": {
        "dev": {
            "serve": {"m": "v2", "n": "v1"},
            "canary": {"percent": 1, "serve": {"m": "v1"}},
            "auth": "jwt",
            "jwt": {"issuer": "https://a", "audience": ["a"]},
            "throttle": {"rate": 1, "burst": 1},
            "cors": {"origins": ["https://a.example"]},
            "async": {},
        }
    },
}

DOMAIN = {"name": "ml.example.com"}

NAMES = {"models": "m", "versions": "v1", "stages": "dev", "consumers": "app", "pools": "small"}


def leaves(schema: Mapping[str, Any], root: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Return the path of every key with a value that is not a mapping."""
    if "$ref" in schema:
        if schema["$ref"].endswith("/node"):
            return  # a graph: see test_every_key_of_a_graph_is_read
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    for key, value in schema.get("properties", {}).items():
        yield from leaves(value, root, (*path, key))
    if isinstance(schema.get("additionalProperties"), Mapping) and path[-1] in NAMES:
        yield from leaves(schema["additionalProperties"], root, (*path, NAMES[path[-1]]))
    if schema.get("type") != "object":
        yield path


SCHEMA = json.loads(schema_path("models").read_bytes())


@pytest.mark.parametrize("path", list(leaves(SCHEMA, SCHEMA, ())), ids=".".join)
def test_every_key_of_the_schema_changes_the_manifest(path: tuple[str, ...]) -> None:
    tree = copy.deepcopy(dict(BASE))
    before = parse(flow(tree))
    if path[0] == "pools":
        tree["models"]["m"]["pool"] = "small"
        before = parse(flow(tree))
    if "domain" in path:
        tree["domain"] = dict(DOMAIN)
        before = parse(flow(tree))
    if "consumers" in path:
        limits = {"throttle": {"rate": 1, "burst": 1}, "quota": {"requests": 1, "period": "day"}}
        tree["stages"]["dev"] |= {"auth": "api_key", "consumers": {"app": limits}}
        del tree["stages"]["dev"]["jwt"]
        before = parse(flow(tree))
    holder = tree
    for key in path[:-1]:
        holder = holder.setdefault(key, {})
    holder.pop(INSTEAD.get(path[-1], ""), None)
    if path[-2:-1] and path[-2] in REQUIRED and path[-1] not in REQUIRED[path[-2]]:
        holder |= REQUIRED[path[-2]]
        before = parse(flow(tree))
    if "agreement" in path or "step_percent" in path:
        holder |= BESIDE.get(path[-1], {})
    if path[-1] == "kms_key_arn":
        holder |= {"artifact": "s3://bucket/k.onnx", "sha256": "ab" * 32}
        before = parse(flow(tree))
    if path[-1] == "runtime":
        tensors = {"x": {"datatype": "FP32", "shape": [-1]}}
        holder.pop("transform")
        holder |= {"artifact": "a.py", "signature": {"inputs": tensors, "outputs": tensors}}
    holder[path[-1]] = OTHER[path[-1]]
    if path[-1] == "*":
        del holder["n"]  # "*" then stands for it
        assert parse(flow(tree)).stages == before.stages
        return
    after = parse(flow(tree))
    assert replace(after, positions={}) != replace(before, positions={})


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("50", Budget(month=50.0)),
        ("0", Budget(month=0.0)),
        ("{month: 12.5}", Budget(month=12.5)),
        ("{million_calls: 8}", Budget(million_calls=8.0)),
        ("{month: 1, million_calls: 8}", Budget(1.0, 8.0)),
    ],
)
def test_budget_is_a_number_or_a_mapping(text: str, budget: Budget) -> None:
    given = flow({**BASE, "budget": "GIVEN"}).replace("GIVEN", text)
    assert parse(given).budget == budget


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (-1, "must be at least 0, got -1"),
        ("a lot", 'must be a number or a mapping, got "a lot"'),
        (True, "must be a number or a mapping, got true"),
        ([1], "must be a number or a mapping, got a list"),
        ({}, "must not be empty"),
        ({"month": "x"}, 'must be a number, at least 0, got "x"'),
        ({"week": 1}, "unknown key `week`"),
    ],
)
def test_invalid_budget_is_rejected(budget: Any, message: str) -> None:
    with pytest.raises(ProblemsError) as raised:
        parse(flow({**BASE, "budget": budget}))
    assert message in str(raised.value)


def test_schema_is_valid_with_closed_mappings_and_descriptions_everywhere() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    for schema in subschemas(SCHEMA):
        if schema.get("type") == "object":
            assert "additionalProperties" in schema
        for key, value in schema.get("properties", {}).items():
            assert "$ref" in value or value.get("description"), key
        if "pattern" in schema:
            assert schema["patternErrorMessage"].startswith(("must be", "a "))


def test_examples_and_defaults_of_the_schema_are_valid() -> None:
    count = 0
    for schema in subschemas(SCHEMA):
        closed = Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]})
        for value in [*schema.get("examples", ()), *([schema["default"]] if "default" in schema else [])]:
            assert list(closed.iter_errors(value)) == []
            count += 1
    assert count > 60


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "type" in schema or "enum" in schema:
            yield schema
        for key, value in schema.items():
            if key not in {"examples", "default"}:
                yield from subschemas(value)


def large_text(count: int) -> str:
    """Return a manifest with this number of models of three versions, with a stage that names none and one that names
    all.
    """
    fields = "{{artifact: models/m{0}/v{1}/model.onnx, examples: models/m{0}/v{1}/examples.json, memory_mb: 512}}"
    models = "".join(
        f"  m{number}:\n    versions:\n"
        + "".join(f"      v{version}: {fields.format(number, version)}\n" for version in (1, 2, 3))
        for number in range(count)
    )
    serve = ", ".join(f"m{number}: v1" for number in range(count))
    return f'models:\n{models}stages:\n  dev: {{serve: {{"*": newest}}}}\n  prod: {{serve: {{{serve}}}}}\n'


def test_thousand_models_of_three_versions_are_parsed() -> None:
    assert sum(len(model.versions) for model in parse(large_text(1000)).models) == 3000


def test_parsing_work_grows_linearly_with_the_models() -> None:
    few, many = (count_calls(partial(parse, large_text(count))) for count in (100, 400))
    assert many < 4.4 * few
    assert many < 400 * 4000
