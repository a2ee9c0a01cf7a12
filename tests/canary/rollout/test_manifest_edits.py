"""Edits of models.yaml during a canary: each step changes only its lines, and an impossible step is rejected with a
remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest

from turnout.canary.rollout.manifest_edits import end_canary, promote_models, set_percent, start_canary
from turnout.manifest.parser import Canary, Manifest, Stage, parse_manifest
from turnout.problems import ProblemsError
from turnout.yaml_text.editor import EditError

MANIFEST = """\
models:
  iris: {versions: {v1: {artifact: a.onnx}, v2: {artifact: b.onnx}, v3: {artifact: c.onnx}}}
  digits: {versions: {v1: {artifact: d.onnx}, v2: {artifact: e.onnx}}}
stages:
  dev: {serve: {"*": newest}}  # all of it
  prod:
    serve: {iris: v1, digits: v1}   # one by one
    auth: api_key
"""


def stage_of(text: str, name: str = "prod") -> Stage:
    manifest = parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")
    return next(stage for stage in manifest.stages if stage.name == name)


def edited(edit: Callable[..., Manifest], text: str, *args: object, **options: object) -> str:
    after = edit(parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml"), *args, **options)
    assert after.read is not None
    return after.read.data.decode()


def changed(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def start(text: str = MANIFEST, stage: str = "prod", percent: float = 10, **serve: str) -> str:
    return edited(start_canary, text, stage, serve, percent)


def test_canary_is_one_line_of_its_stage() -> None:
    after = start(iris="v2", digits="v2")
    assert changed(MANIFEST, after) == ["+     canary: {percent: 10, serve: {iris: v2, digits: v2}}"]


def test_canary_of_a_stage_in_flow_style_stays_on_its_line() -> None:
    after = start(stage="dev", iris="v1", percent=12.5)
    assert '  dev: {serve: {"*": newest}, canary: {percent: 12.5, serve: {iris: v1}}}  # all of it\n' in after


def test_release_needs_no_model() -> None:
    after = edited(start_canary, MANIFEST, "prod", {}, 5, release=True)
    assert changed(MANIFEST, after) == ["+     canary: {percent: 5, release: true}"]


def test_percent_is_changed_in_place() -> None:
    before = start(iris="v2")
    assert changed(before, edited(set_percent, before, "prod", 50)) == [
        "-     canary: {percent: 10, serve: {iris: v2}}",
        "+     canary: {percent: 50, serve: {iris: v2}}",
    ]


def test_rollback_restores_every_byte() -> None:
    assert edited(end_canary, start(iris="v2", digits="v2"), "prod") == MANIFEST


def test_promotion_of_all_moves_the_baseline_and_ends_the_canary() -> None:
    after = edited(promote_models, start(iris="v2", digits="v2"), "prod", ())
    assert changed(MANIFEST, after) == [
        "-     serve: {iris: v1, digits: v1}   # one by one",
        "+     serve: {iris: v2, digits: v2}   # one by one",
    ]


def test_models_are_promoted_one_by_one() -> None:
    before = start(iris="v2", digits="v2")
    first = edited(promote_models, before, "prod", ["digits"])
    stage = stage_of(first)
    assert stage.serve == {"iris": "v1", "digits": "v2"}
    assert stage.canary is not None
    assert stage.canary.serve == {"iris": "v2"}
    last = edited(promote_models, first, "prod", ["iris"])
    assert last == edited(promote_models, before, "prod", ())


def test_promotion_with_newest_writes_the_model_explicitly() -> None:
    after = edited(promote_models, start(stage="dev", iris="v1"), "dev", ())
    assert '  dev: {serve: {"*": newest, iris: v1}}  # all of it\n' in after
    assert stage_of(after, "dev").serve == {"iris": "v1", "digits": "v2"}


@pytest.mark.parametrize(
    ("weights", "to", "expected"),
    [
        ("{iris: {v1: 90, v2: 10}}", "v2", "{iris: {v2: 100}}"),
        ("{iris: {v1: 90, v2: 10}}", "v1", "{iris: {v1: 100}}"),
        ("{iris: {v1: 90, v2: 10}}", "v3", "{iris: {v3: 100}}"),
        ("\n      iris:\n        v1: 90  # old\n        v2: 10  # new\n", "v2", "iris:\n        v2: 100  # new\n"),
    ],
)
def test_promotion_of_a_weighted_model_gives_it_all_the_weight(weights: str, to: str, expected: str) -> None:
    text = MANIFEST.replace("{iris: v1, digits: v1}", "{digits: v1}").replace(
        "    auth:", f"    weights: {weights.rstrip()}\n    auth:"
    )
    after = edited(promote_models, start(text, iris=to), "prod", ())
    assert stage_of(after).weights == {"iris": {to: 100}}
    assert expected.strip() in after


def test_settings_of_the_judgement_are_kept_as_long_as_the_canary() -> None:
    before = MANIFEST + "    canary: {percent: 10, bake_minutes: 5, serve: {iris: v2, digits: v2}}\n"
    after = edited(promote_models, before, "prod", ["iris"])
    assert "    canary: {percent: 10, bake_minutes: 5, serve: {digits: v2}}\n" in after


@pytest.mark.parametrize(
    ("stage", "serve", "message", "hint"),
    [
        ("prd", {"iris": "v2"}, "unknown stage prd: did you mean `prod`?", "Known stages: dev, prod."),
        ("prod", {"irs": "v2"}, "unknown model irs: did you mean `iris`?", "Known models: iris, digits."),
        ("prod", {"iris": "v9"}, "iris has no version v9", "iris has v1, v2, v3."),
        ("prod", {"iris": "v1"}, "prod already serves iris v1", "iris also has v2, v3."),
        ("prod", {}, "the canary would change nothing", "--model"),
    ],
)
def test_impossible_canary_is_rejected(stage: str, serve: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(EditError) as caught:
        start(stage=stage, **serve)
    assert message in caught.value.message
    assert hint in caught.value.hint


def canary_of(text: str) -> Canary | None:
    parsed = parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")
    return next(stage.canary for stage in parsed.stages if stage.name == "prod")


def test_second_model_joins_the_canary_and_each_ends_separately() -> None:
    joined = start(start(iris="v2"), digits="v2")
    canary = canary_of(joined)
    assert canary is not None
    assert (canary.percent, dict(canary.serve)) == (10.0, {"iris": "v2", "digits": "v2"})
    without = canary_of(edited(end_canary, joined, "prod", ["iris"]))
    assert without is not None
    assert dict(without.serve) == {"digits": "v2"}
    assert canary_of(edited(end_canary, joined, "prod", ["iris", "digits"])) is None
    assert edited(end_canary, edited(end_canary, joined, "prod", ["iris"]), "prod", ["digits"]) == MANIFEST
    promoted = canary_of(edited(promote_models, joined, "prod", ["digits"]))
    assert promoted is not None
    assert dict(promoted.serve) == {"iris": "v2"}


def test_rollback_of_a_model_outside_the_canary_is_rejected() -> None:
    with pytest.raises(EditError, match="the canary of prod does not serve digits"):
        edited(end_canary, start(iris="v2"), "prod", ["digits"])


@pytest.mark.parametrize(
    ("serve", "percent", "release", "message", "hint"),
    [
        ({"iris": "v3"}, 10.0, False, "prod already has a canary: 10% of requests to iris v2", "--model iris"),
        (
            {"digits": "v2"},
            5.0,
            False,
            "all models of a stage's canary have one percentage, here 10%",
            "start a routed canary",
        ),
        ({}, 10.0, True, "prod already has a canary", "turnout canary promote prod"),
        ({"digits": "v2"}, 10.0, True, "prod already has a canary", "turnout canary rollback prod"),
    ],
    ids=["same model", "other share", "release alone", "release"],
)
def test_impossible_join_is_rejected_with_the_remedy(
    serve: dict[str, str], percent: float, release: bool, message: str, hint: str
) -> None:
    with pytest.raises(EditError) as caught:
        edited(start_canary, start(iris="v2"), "prod", serve, percent, release=release)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_canary_commands_are_rejected_without_a_canary() -> None:
    for edit in (
        lambda: edited(set_percent, MANIFEST, "prod", 5),
        lambda: edited(promote_models, MANIFEST, "prod", ()),
        lambda: edited(end_canary, MANIFEST, "prod"),
    ):
        with pytest.raises(EditError, match="prod has no canary") as caught:
            edit()
        assert "turnout canary start prod" in caught.value.hint


def test_promotion_of_a_model_outside_the_canary_is_rejected() -> None:
    with pytest.raises(EditError, match="the canary of prod does not serve digits") as caught:
        edited(promote_models, start(iris="v2"), "prod", ["digits"])
    assert caught.value.hint == "Its canary: 10% of requests to iris v2."


def test_invalid_percentage_is_rejected() -> None:
    with pytest.raises(ProblemsError, match="percent"):
        start(iris="v2", percent=101)
