"""The place of a new canary, the canaries that a command is about, and routed canaries in models.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.canary.rollout.manifest_edits import end_canary, promote_models, set_percent, start_canary
from turnout.canary.rollout.stage_canaries import (
    choose_models,
    describe_canaries,
    place_canary,
    served_text,
    version_of,
    view_of,
    views_of,
)
from turnout.manifest.parser import Manifest, Stage, parse_manifest
from turnout.plan.stages import plan_stage
from turnout.problems import ProblemsError
from turnout.protocol.routing.choice import parse_route
from turnout.yaml_text.editor import EditError

MANIFEST = """\
models:
  iris: {versions: {v1: {artifact: a.onnx}, v2: {artifact: b.onnx}, v3: {artifact: c.onnx}}}
  digits: {versions: {v1: {artifact: d.onnx}, v2: {artifact: e.onnx}}}
  names: {versions: {v1: {artifact: f.onnx}, v2: {artifact: g.onnx}}}
stages:
  prod:
    serve: {iris: v1, digits: v1}   # one by one
    weights: {names: {v1: 100}}
"""


def parse(text: str) -> Manifest:
    return parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")


def stage_with(text: str = "") -> Stage:
    return parse(MANIFEST + text).stages[0]


def text_of(manifest: Manifest) -> str:
    assert manifest.read is not None
    return manifest.read.data.decode()


CANARY = "    canary: {percent: 10, bake_minutes: 5, serve: {iris: v2}}\n"
ROUTED = "    routed_canaries: {digits: {version: v2, percent: 25}}\n"


@pytest.mark.parametrize(
    ("text", "percent", "options", "expected"),
    [
        ("", None, {}, (10.0, False)),
        ("", 7.0, {}, (7.0, False)),
        ("", 7.0, {"routed": True}, (7.0, True)),
        (CANARY, None, {}, (10.0, False)),
        (CANARY, 10.0, {}, (10.0, False)),
        (CANARY, 25.0, {}, (25.0, True)),
        (CANARY, 25.0, {"release": True}, (25.0, False)),  # which is then rejected
        (ROUTED, None, {}, (10.0, False)),
        ("    canary: {percent: 5, release: true}\n", None, {}, (10.0, True)),
    ],
)
def test_new_canary_joins_or_is_routed(
    text: str, percent: float | None, options: dict[str, bool], expected: tuple[float, bool]
) -> None:
    placement = place_canary(stage_with(text), percent, **options)
    assert (placement.percent, placement.is_routed) == expected
    assert bool(placement.reason) == (placement.is_routed and not options)


def test_routed_canary_becomes_a_weight_of_its_model() -> None:
    stage = stage_with(CANARY + ROUTED)
    assert stage.weights["digits"] == {"v1": 75.0, "v2": 25.0}
    assert "digits" not in stage.serve
    planned = plan_stage(stage, parse(MANIFEST).models)
    assert (planned.variables["digits"], planned.variables["digitsRoute"]) == ("router", "v1.75,v2.25")
    assert planned.canary is not None
    assert dict(planned.canary.overrides) == {"iris": "v2", "canary": "true"}
    view = views_of(stage)["digits"]
    assert (view.serve["digits"], view.canary and dict(view.canary.serve)) == ("v1", {"digits": "v2"})
    assert [served_text(stage, model) for model in ("iris", "digits", "names")] == ["v1", "v1", "v1"]
    assert describe_canaries(stage) == "10% of requests to iris v2; 25% of requests to digits v2"


@given(st.floats(0, 100), st.lists(st.integers(0, 40), min_size=2, max_size=3).filter(any))
def test_weights_keep_the_baselines_proportions(percent: float, shares: list[int]) -> None:
    total = sum(shares)
    weights = {f"v{number}": round(100 * share / total, 6) for number, share in enumerate(shares, 1)}
    off = 100 - sum(weights.values())
    weights["v1"] += off
    text = MANIFEST.replace("{names: {v1: 100}}", f"{{iris: {weights}}}".replace("'", ""))
    text = text.replace("iris: v1, ", "names: v1, ")
    text = text.replace("c.onnx}", "c.onnx}, v4: {artifact: h.onnx}")
    stage = parse(text + f"    routed_canaries: {{iris: {{version: v4, percent: {percent:.3f}}}}}\n").stages[0]
    split = stage.weights["iris"]
    assert split["v4"] == pytest.approx(percent, abs=1e-3)
    assert sum(split.values()) == pytest.approx(100, abs=1e-3)
    for version, share in weights.items():
        assert split[version] == pytest.approx(share * (100 - split["v4"]) / 100, abs=1e-3)
    planned = plan_stage(stage, parse(text).models)
    assert set(parse_route(planned.variables["irisRoute"])) == {name for name, share in split.items() if share}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("iris: {version: v2, percent: 5}", "`iris` is in `stages.prod.canary.serve` too"),
        ("digits: {version: v1, percent: 5}", "the canary changes nothing: prod serves digits v1 already"),
        ("names: {version: v1, percent: 5}", "the canary changes nothing: prod serves names v1 already"),
        ("digits: {version: v9, percent: 5}", "unknown version `v9`"),
        ("other: {version: v2, percent: 5}", "unknown model `other`"),
        ('"*": {version: v2, percent: 5}', "a routed canary must name its model"),
        ("digits: {version: v2, percent: 101}", "must be 0-100, got 101"),
        ("digits: {version: v2}", "percent"),
        ("digits: {version: v2, percent: 5, serve: {digits: v2}}", "unknown key"),
        ("digits: {version: v2, percent: 5, step_percent: 5}", "needs `strategy: linear`"),
    ],
)
def test_impossible_routed_canary_is_rejected(entry: str, message: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        stage_with(f"{CANARY}    routed_canaries: {{{entry}}}\n")
    assert any(message in f"{problem.path}: {problem.message}" for problem in caught.value.problems)


def test_ending_a_canary_changes_only_its_own_entry() -> None:
    begun = text_of(start_canary(parse(MANIFEST + CANARY), "prod", {"digits": "v2"}, 25, routed=True))
    assert begun == MANIFEST + CANARY + ROUTED
    both = text_of(start_canary(parse(begun), "prod", {"names": "v2"}, 2.5, routed=True))
    assert both == begun.replace("percent: 25}}", "percent: 25}, names: {version: v2, percent: 2.5}}")
    assert text_of(set_percent(parse(both), "prod", 3, ["names"])) == both.replace("2.5", "3")
    assert text_of(end_canary(parse(both), "prod", ["digits", "names"])) == MANIFEST + CANARY
    assert text_of(end_canary(parse(both), "prod")) == both.replace(CANARY, "")
    promoted = text_of(promote_models(parse(both), "prod", ["digits", "names"]))
    expected = (MANIFEST + CANARY).replace("digits: v1}   #", "digits: v2}   #")
    assert promoted == expected.replace("names: {v1: 100}", "names: {v2: 100}")


def test_model_that_leaves_the_stages_canary_keeps_its_judgement() -> None:
    joined = parse(MANIFEST + CANARY.replace("iris: v2", "iris: v2, digits: v2"))
    moved = set_percent(joined, "prod", 40, ["digits"])
    assert text_of(moved) == MANIFEST + CANARY + (
        "    routed_canaries: {digits: {version: v2, percent: 40, bake_minutes: 5}}\n"
    )
    assert moved.stages[0].routed["digits"].judgement.bake_minutes == 5
    alone = set_percent(parse(MANIFEST + CANARY), "prod", 40, ["iris"])  # no other model shares its canary
    assert text_of(alone) == MANIFEST + CANARY.replace("10", "40")


def test_commands_without_a_model_choose_the_stages_canary_or_the_only_routed_one() -> None:
    assert choose_models(stage_with(CANARY + ROUTED), []) == ("iris",)
    assert choose_models(stage_with(CANARY + ROUTED), ["digits"]) == ("digits",)
    assert choose_models(stage_with(ROUTED), []) == ("digits",)
    assert version_of(stage_with(ROUTED), "digits") == "v2"
    assert view_of(stage_with(ROUTED), "")[0] == "digits"
    two = stage_with(ROUTED.replace("25}", "25}, names: {version: v2, percent: 1}"))
    for models, message, hint in (
        ([], "prod has several routed canaries", "--model digits"),
        (["iris"], "prod has no canary of iris", "1% of requests to names v2"),
        (["digts"], "did you mean `digits`?", ""),
    ):
        with pytest.raises(EditError) as caught:
            choose_models(two, models)
        assert message in caught.value.message
        assert hint in caught.value.hint
    with pytest.raises(EditError, match="prod has no canary"):
        choose_models(stage_with(), ["digits"])
