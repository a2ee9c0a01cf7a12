"""Any file yields a Manifest or a ProblemsError whose problems have places in the file."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from turnout.manifest.parser import Manifest, parse_manifest
from turnout.manifest.references import REST
from turnout.problems import Problem, ProblemsError
from turnout.protocol.routing.graph_nodes import calls_of

SAMPLE = (Path(__file__).resolve().parents[2] / "models.yaml").read_text()
WHOLE = """\
platform: acme
defaults: {memory_mb: 2048}
models:
  iris:
    description: Iris species.
    versions:
      v1: {artifact: models/iris/v1/model.onnx, warm: {provisioned: 2}}
      v2:
        artifact: b.onnx
        transform: t.py
        environment: {VOCABULARY: large}
        slo: {p99_ms: 200}
        capture: {percent: 1, redact: [x]}
    routing:
      sticky: {header: x-user-id}
      shadow: {version: v2, percent: 5}
      fallback: v1
  bert-base: {versions: {1-0: {artifact: b.onnx}}}
  triage:
    graph:
      sequence:
        - {model: iris, inputs: {X: x}, outputs: {label: kind}}
        - ensemble: [{model: bert-base}, {model: iris, version: v1}]
          combine: {y: mean, z: vote}
  pick:
    graph:
      switch:
        input: kind
        cases: [{below: 5, then: {model: triage}}, {equals: 7, then: {model: iris}}, {above: 9, then: {model: iris}}]
        otherwise: {model: bert-base}
stages:
  dev: {serve: {"*": newest}}
  prod:
    serve: {bert-base: 1-0}
    weights: {iris: {v1: 90.5, v2: 9.5}}
    canary: {percent: 10, serve: {iris: v2}, steps: [5, 50], agreement: {percent: 5, floor: 0.9, rules: {y: equal}}}
    auth: jwt
    jwt: {issuer: https://login.example.com, audience: [me]}
    throttle: {rate: 100, burst: 200}
"""


def check(data: bytes) -> None:
    """Check the rule: a complete manifest, or problems whose places exist in the file."""
    try:
        manifest = parse_manifest(data, path=Path("models.yaml"), source="models.yaml")
    except ProblemsError as error:
        check_problems(error.problems, data)
    else:
        check_whole(manifest)


def check_problems(problems: tuple[Problem, ...], data: bytes) -> None:
    """Check that each problem has a place in the file and fits on a line."""
    lines = re.split(rb"\r\n|\r|\n", data)
    assert problems
    for problem in problems:
        assert 1 <= problem.line <= len(lines), problem
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem
        assert problem.message.isprintable()
        assert all(str(key).isprintable() for key in problem.path)
        str(problem).encode()


def check_whole(manifest: Manifest) -> None:
    """Check that every name in a manifest refers to something."""
    names = {model.name for model in manifest.models if model.graph is None}
    for stage in manifest.stages:
        assert stage.serve.keys() | stage.weights.keys() == names
        assert not stage.serve.keys() & stage.weights.keys()
        assert REST not in stage.serve
        for served in (stage.serve, stage.canary.serve if stage.canary else {}):
            for model, version in served.items():
                manifest.model(model).version(version)
        for model, shares in stage.weights.items():
            assert abs(sum(shares.values()) - 100) < 1e-3
            for version in shares:
                manifest.model(model).version(version)
    for entry in manifest.models:
        for version in (entry.routing.shadow_version, entry.routing.fallback):
            assert not version or entry.version(version)
        assert bool(entry.versions) != bool(entry.graph)
        for _, call in calls_of(entry.graph) if entry.graph else ():
            called = manifest.model(call.model)
            assert not call.version or called.version(call.version)


@given(st.binary(max_size=200))
@example(b"\r\x00")
@example(b"\r\x80")
def test_arbitrary_bytes(data: bytes) -> None:
    check(data)


@given(st.text(st.sampled_from("ab:{}[]\"'-?*&!|>%@#,\n\t \r01.~<"), max_size=60))
@settings(max_examples=400)
@example("!%0a")
def test_arbitrary_text_of_yaml_characters(text: str) -> None:
    check(text.encode())


scalars = st.sampled_from(
    [
        "1", "1.0", "-1", "1e3", "on", "null", "", "''", '"x"', "v1", "v2", "iris", "newest", "*x", "&x 1", "!t 1",
        "~", "{}", "[]", "{a: 1}", "[1, {b: 2}]",
        "true", ".nan", ".inf", "9" * 50, "2024-01-01", "|\n  x", '"\\n"', "é", "{",
    ]
)  # fmt: skip


@given(st.sampled_from([SAMPLE, WHOLE]), st.data())
@settings(max_examples=400)
def test_manifest_with_another_value_somewhere(text: str, data: st.DataObject) -> None:
    words = list(re.finditer(r"(?<=: )[^{},\n]+|[a-z0-9_-]+(?=:)", text))
    for _ in range(data.draw(st.integers(1, 3))):
        word = data.draw(st.sampled_from(words))
        text = text[: word.start()] + data.draw(scalars) + text[word.end() :]
    check(text.encode())


@given(st.sampled_from([SAMPLE, WHOLE]), st.data())
@settings(max_examples=300)
def test_manifest_with_characters_removed_or_inserted(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 40, len(text))))
    check((text[:start] + data.draw(st.text(max_size=3)) + text[end:]).encode("utf-8", "surrogatepass"))


@given(st.sampled_from([SAMPLE, WHOLE]), st.data())
@settings(max_examples=200)
def test_manifest_with_lines_removed_duplicated_or_swapped(text: str, data: st.DataObject) -> None:
    lines = text.splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["leave out", "double", "swap"])):
        case "leave out":
            del lines[number]
        case "double":
            lines.insert(other, lines[number])
        case _:
            lines[number], lines[other] = lines[other], lines[number]
    check("".join(lines).encode())


def test_both_manifests_are_valid_unchanged() -> None:
    for text in (SAMPLE, WHOLE):
        parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")
