"""A pool's requirements on its versions, and its settings for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.manifest.parser import Manifest, parse_manifest
from turnout.problems import ProblemsError

PYTHON = (
    "runtime: python, artifact: m/predict.py, signature: {inputs: {x: {datatype: FP32, shape: [-1]}}, "
    "outputs: {y: {datatype: FP32, shape: [-1]}}}"
)


def text_of(iris: str = "", v1: str = "", v2: str = "", spam: str = "artifact: c.onnx", top: str = "") -> str:
    return f"""\
{top}
models:
  iris:
    {iris or "pool: small"}
    versions:
      v1: {{artifact: a.onnx{v1}}}
      v2: {{artifact: b.onnx{v2}}}
  spam: {{versions: {{v1: {{{spam}}}}}}}
stages: {{dev: {{serve: {{"*": newest}}}}}}
"""


def read(text: str) -> Manifest:
    return parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")


def problems_of(text: str) -> list[str]:
    try:
        read(text)
    except ProblemsError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_pool_is_set_for_a_model_or_a_version() -> None:
    manifest = read(text_of(v2=", pool: large", spam="artifact: c.onnx, pool: small"))
    assert [version.pool for version in manifest.versions] == ["small", "large", "small"]
    assert read(text_of(iris="direct: false")).model("iris").version("v1").pool == ""


def test_settings_of_a_pool_replace_the_defaults_only_for_its_versions() -> None:
    top = "defaults: {memory_mb: 256, timeout_s: 5}\npools: {small: {memory_mb: 1769, tracing: true}}"
    iris, _, spam = read(text_of(top=top)).versions
    assert (iris.memory_mb, iris.timeout_s, iris.tracing) == (1769, 5, True)
    assert (spam.memory_mb, spam.tracing) == (256, False)


@pytest.mark.parametrize(
    "text",
    [
        text_of(v1=", memory_mb: 1024"),  # that of the defaults
        text_of(v1=", memory_mb: 512", top="pools: {small: {memory_mb: 512}}"),
        text_of(
            v1=", transform: a.py, requirements: [scipy==1.0]", v2=", transform: b.py, requirements: [pandas==2.0]"
        ),
        text_of(
            v1=", transform: a.py, requirements: [scipy==1.0]", v2=", transform: b.py, requirements: [scipy == 1.0]"
        ),
        text_of(spam=f"{PYTHON}, pool: python"),
        text_of(v1=", capture: {percent: 5}"),
        text_of(top="pools: {small: {}, unused: {}}"),
    ],
)
def test_compatible_versions_of_a_pool_are_accepted(text: str) -> None:
    assert problems_of(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            text_of(v2=", memory_mb: 512"),
            """\
models.yaml:7:30: models.iris.versions.v2.memory_mb: must be that of the pool `small`, it has 1024: versions of a pool \
share one function
    Set `pools.small.memory_mb` for all of them, or take the version out of the pool.""",
        ),
        (text_of(v1=", timeout_s: 9", top="pools: {small: {timeout_s: 8}}"), "timeout_s: must be that of the pool"),
        (text_of(v1=", environment: {AB: c}"), "environment: must be that of the pool `small`, it has none"),
        (text_of(v1=", architecture: x86_64"), 'architecture: must be that of the pool `small`, it has "arm64"'),
        (text_of(v1=", warm: {snap_start: true}"), "warm: must be that of the pool"),
        (text_of(v1=", slo: {p99_ms: 5}"), "slo: must be that of the pool"),
        (
            text_of(spam=f"{PYTHON}, pool: small"),
            "models.spam.versions.v1.runtime: must be `onnx`, as of iris v1, in the pool `small`",
        ),
        (
            text_of(
                v1=", transform: a.py, requirements: [scikit-learn==1.0]",
                v2=", transform: b.py, requirements: [Scikit_Learn==1.1]",
            ),
            "requirements.0: conflicts with `scikit-learn==1.0` of iris v1 in the pool `small`",
        ),
        (
            text_of(v1=", pool: smalls", top="pools: {small: {}}"),
            "models.iris.versions.v1.pool: unknown pool `smalls`: did you mean `small`?",
        ),
        (text_of(iris="pool: other", top="pools: {small: {}}"), "models.iris.pool: unknown pool `other`"),
        (text_of(iris="pool: Small"), "a pool's name must be lower-case words"),
        (text_of(iris="pool: small\n    direct: true"), "models.iris.direct: cannot be combined with a pool"),
        (text_of(top="routes: direct"), "models.iris: `routes: direct` cannot be combined with a pool"),
        (
            text_of(top="pools: {small: {warm: {snap_start: true}, ephemeral_storage_mb: 1024}}"),
            "pools.small.ephemeral_storage_mb: must be 512 with `snap_start`",
        ),
        (text_of(top="pools: {small: {capture: {percent: 1}}}"), "pools.small.capture: unknown key"),
        (
            text_of().replace(
                "spam: {versions: {v1: {artifact: c.onnx}}}", "spam: {pool: small, graph: {model: iris}}"
            ),
            "models.spam",
        ),
        (text_of().replace("v2: {", "pool: {"), "`pool` is a reserved word"),
    ],
)
def test_incompatible_versions_of_a_pool_are_reported(text: str, expected: str) -> None:
    assert expected in "\n".join(problems_of(text))


def test_asynchronous_versions_must_have_their_own_functions() -> None:
    text = text_of(v1=", async: true").replace('{"*": newest}', '{"*": newest}, async: {}')
    assert any("async: cannot be combined with a pool" in problem for problem in problems_of(text))
