"""The version of an event for a pool, and the models that write metrics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.builders.manifests import model_names, version_names
from turnout.protocol.routing.choice import handed_on
from turnout.protocol.routing.pooled import (
    VARIABLE_CHARACTERS,
    WATCH_ALL,
    WATCHED_VARIABLE,
    aim_at,
    find_aim,
    is_watched,
    of_version,
    spell_watched,
)


@given(model_names, version_names)
def test_version_in_the_event_takes_precedence_over_the_path(model: str, version: str) -> None:
    event = {"resource": "/models/other/v9/inference", "stageVariables": None}
    assert find_aim(aim_at(event, model, version)) == (model, version)
    assert find_aim({"resource": f"/models/{model}/{version}/inference"}) == (model, version)
    assert event == {"resource": "/models/other/v9/inference", "stageVariables": None}


def test_aim_keeps_what_the_router_says_and_does_not_outlive_it() -> None:
    aimed = aim_at(handed_on({"turnout": {"hop": 1}}, shadow=True), "iris", "v1")
    assert (aimed["turnout"]["hop"], aimed["turnout"]["shadow"]) == (2, True)
    assert "pooled" not in handed_on(aimed)["turnout"]  # the next router aims by itself


def test_shared_route_alone_contains_no_version() -> None:
    assert find_aim({"resource": "/models/{model}/{version}/inference"}) == ("", "")
    assert find_aim({}) == ("", "")


@given(st.lists(model_names, unique=True, min_size=1, max_size=20))
def test_only_named_models_are_watched(models: list[str]) -> None:
    text = spell_watched(models)
    assert len(text) <= VARIABLE_CHARACTERS
    event = {"stageVariables": {WATCHED_VARIABLE: text}}
    assert all(is_watched(event, model) for model in models)
    assert text == WATCH_ALL or not is_watched(event, "".join(models) + "x")
    assert not is_watched({"stageVariables": None}, models[0])


def test_too_many_models_are_replaced_by_all() -> None:
    assert spell_watched([f"a-model-with-a-long-name-{number}" for number in range(30)]) == WATCH_ALL
    assert spell_watched([]) == ""


def test_metrics_of_a_version_contain_its_name() -> None:
    assert of_version("turnout-eu_small_pool", "turnout-eu_iris_v1", "live") == {
        "FunctionName": "turnout-eu_small_pool",
        "Resource": "turnout-eu_small_pool:live",
        "Model": "iris",
        "Version": "v1",
    }
