"""What a stage serves of thousands of models, in a few variables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.naming import variable_name
from turnout.protocol.routing.packed_choices import (
    VARIABLE_CHARACTERS,
    arrange_models,
    expand_choices,
    find_choice,
    is_packed,
    pack_choices,
    unpack_choices,
)

MODELS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z][a-z0-9]{0,5})?", fullmatch=True),
    st.lists(st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8})?", fullmatch=True), min_size=1, max_size=3, unique=True),
    min_size=1,
    max_size=120,
)


def longest_of(models: dict[str, list[str]]) -> dict[str, int]:
    return {model: max(map(len, versions)) for model, versions in models.items()}


def test_many_models_fit_into_a_few_variables() -> None:
    choices = {f"model-m{number}": "v1" for number in range(3000)}
    groups = tuple(arrange_models(dict.fromkeys(choices, 2)))
    packed = pack_choices(choices, groups)
    assert len(packed) < 96
    assert list(packed)[:2] == ["choice1", "choice2"]
    assert packed["choice1"].startswith("model-m0.v1,model-m1.v1,")
    assert unpack_choices(packed) == {variable_name(model): "v1" for model in choices}


@given(MODELS, st.data())
def test_one_change_affects_only_its_own_choice(models: dict[str, list[str]], data: st.DataObject) -> None:
    groups = tuple(arrange_models(longest_of(models)))
    choices = {model: data.draw(st.sampled_from(versions)) for model, versions in models.items()}
    packed = pack_choices(choices, groups)
    assert all(len(value) <= VARIABLE_CHARACTERS and is_packed(name) for name, value in packed.items())
    assert unpack_choices(packed) == {variable_name(model): version for model, version in choices.items()}

    moved = data.draw(st.sampled_from(sorted(models)))
    after = {**choices, moved: data.draw(st.sampled_from(models[moved]))}
    repacked = pack_choices(after, groups)
    changed = [name for name in packed if packed[name] != repacked[name]]
    assert len(changed) == (choices[moved] != after[moved])
    overridden = {**packed, **{name: repacked[name] for name in changed}}
    assert unpack_choices(overridden) == {variable_name(model): version for model, version in after.items()}


def test_variables_of_models_and_packed_choices_can_be_combined() -> None:
    variables = {"choice2": "bert-base.v1", "iris": "v2", "choice1": "digits.v1", "choices": "v9", "alias": "live"}
    assert expand_choices(variables) == {
        "digits": "v1",
        "bertBase": "v1",
        "iris": "v2",
        "choices": "v9",
        "alias": "live",
    }
    assert [find_choice(variables, name) for name in ("iris", "bertBase", "nothing")] == ["v2", "v1", ""]


def test_unreadable_choices_name_nothing_and_the_first_of_two_counts() -> None:
    assert unpack_choices({"choice1": "iris,,.v1,a.v1", "choice10": "a.v3", "choice9": "a.v2"}) == {"a": "v1"}
    assert unpack_choices({}) == {}
