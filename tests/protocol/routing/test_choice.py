"""Choosing versions: weights, keys, and how few keys move when weights change.

Bounds are six standard deviations wide: a fair choice leaves them once in half a billion runs.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from turnout.protocol.routing.choice import (
    RouteError,
    choose_by_draw,
    choose_for_key,
    handed_on,
    is_shadow,
    is_worth_fallback,
    parse_route,
    read_hop,
    spell_route,
)

KEYS = [f"user-{number}" for number in range(3000)]
VERSIONS = ("v1", "v2", "v3", "v4", "v5")

weight = st.floats(0.1, 100)
weights_of_few = st.lists(weight, min_size=2, max_size=5).map(lambda entry: dict(zip(VERSIONS, entry, strict=False)))
properties = settings(max_examples=25, deadline=None)


def share(weights: Mapping[str, float], version: str) -> float:
    return weights.get(version, 0) / math.fsum(weights.values())


def band(expected: float, count: int) -> float:
    return 6 * math.sqrt(expected * (1 - expected) / count) + 1e-9


def chosen(weights: Mapping[str, float]) -> dict[str, str]:
    return {key: choose_for_key(weights, key, "iris") for key in KEYS}


def disagreement(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The share of keys that weighted rendezvous hashing moves: 1 - sum over i of 1 / sum over j of max(p_j/p_i,
    q_j/q_i).
    """
    stay = 0.0
    for i in before:
        p_i, q_i = share(before, i), share(after, i)
        if p_i and q_i:
            stay += 1 / math.fsum(max(share(before, j) / p_i, share(after, j) / q_i) for j in {**before, **after})
    return max(0.0, 1 - stay)


@properties
@given(weights_of_few)
def test_keys_are_distributed_by_weight(weights: dict[str, float]) -> None:
    counts = Counter(chosen(weights).values())
    for version in weights:
        expected = share(weights, version)
        assert abs(counts[version] / len(KEYS) - expected) <= band(expected, len(KEYS))


@properties
@given(weights_of_few, st.integers())
def test_draws_are_distributed_by_weight(weights: dict[str, float], seed: int) -> None:
    draw = random.Random(seed).random
    counts = Counter(choose_by_draw(weights, draw()) for _ in KEYS)
    for version in weights:
        expected = share(weights, version)
        assert abs(counts[version] / len(KEYS) - expected) <= band(expected, len(KEYS))


@properties
@given(weights_of_few, st.text(min_size=1), st.randoms())
def test_a_key_keeps_its_version_while_weights_stay(
    weights: dict[str, float], key: str, shuffled: random.Random
) -> None:
    rows = list(weights.items())
    shuffled.shuffle(rows)
    scaled = {version: weight * 4 for version, weight in rows}
    assert choose_for_key(weights, key, "iris") == choose_for_key(scaled, key, "iris")


@properties
@given(weights_of_few, st.data())
def test_one_changed_weight_moves_the_fewest_keys_all_in_its_direction(
    weights: dict[str, float], data: st.DataObject
) -> None:
    changed = data.draw(st.sampled_from(sorted(weights)))
    after = {**weights, changed: data.draw(weight)}
    moves = [
        (old, new) for old, new in zip(chosen(weights).values(), chosen(after).values(), strict=True) if old != new
    ]
    grew = after[changed] > weights[changed]
    assert all((new if grew else old) == changed for old, new in moves)
    least = abs(share(after, changed) - share(weights, changed))
    assert abs(len(moves) / len(KEYS) - least) <= band(least, len(KEYS))


@properties
@given(st.floats(1, 99), st.floats(1, 99))
def test_between_two_versions_no_key_moves_unnecessarily(before: float, after: float) -> None:
    old, new = chosen({"v1": 100 - before, "v2": before}), chosen({"v1": 100 - after, "v2": after})
    moved = [key for key in KEYS if old[key] != new[key]]
    assert {new[key] for key in moved} <= {"v2" if after > before else "v1"}
    least = abs(after - before) / 100
    assert abs(len(moved) / len(KEYS) - least) <= band(least, len(KEYS))


@properties
@given(weights_of_few, st.data())
def test_keys_move_only_to_versions_that_grew_relative_to_the_one_they_leave(
    before: dict[str, float], data: st.DataObject
) -> None:
    after = {version: data.draw(weight) for version in before}
    for old, new in zip(chosen(before).values(), chosen(after).values(), strict=True):
        if old != new:
            assert after[new] / after[old] > before[new] / before[old] * (1 - 1e-9)


@properties
@given(weights_of_few, weights_of_few)
def test_no_more_keys_move_than_the_method_promises(before: dict[str, float], after: dict[str, float]) -> None:
    moved = sum(old != new for old, new in zip(chosen(before).values(), chosen(after).values(), strict=True))
    expected = disagreement(before, after)
    assert abs(moved / len(KEYS) - expected) <= band(expected, len(KEYS))
    variation = sum(abs(share(before, version) - share(after, version)) for version in VERSIONS) / 2
    assert expected <= 2 * variation / (1 + variation) + 1e-9  # the best that any method can promise for all weights


@properties
@given(weights_of_few, st.sampled_from(VERSIONS[:2]), st.floats(0, 1, exclude_max=True))
def test_zero_weight_is_never_chosen(weights: dict[str, float], absent: str, draw: float) -> None:
    weights = {**weights, absent: 0.0}
    assert choose_by_draw(weights, draw) != absent
    read = parse_route(spell_route(weights))
    assert absent not in read
    assert choose_for_key(read, "key", "iris") != absent


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_draws_at_the_ends_choose_a_version_with_weight(draw: float) -> None:
    assert choose_by_draw({"v1": 0, "v2": 0.1, "v3": 0.2, "v4": 0}, draw) in {"v2", "v3"}


def test_the_few_keys_of_one_model_are_not_the_few_of_another() -> None:
    few = {key for key in KEYS if choose_for_key({"v1": 90, "v2": 10}, key, "iris") == "v2"}
    others = {key for key in KEYS if choose_for_key({"v1": 90, "v2": 10}, key, "wine") == "v2"}
    assert abs(len(few & others) / len(few) - 0.1) <= band(0.1, len(few))


def test_keys_are_distributed_equally_on_every_machine() -> None:
    weights = {"v1": 50, "v2": 30, "v3": 20}
    results = [choose_for_key(weights, key, "iris") for key in ("ada", "grace", "", "é", "\ud800", "x" * 10_000)]
    assert results == ["v1", "v3", "v1", "v3", "v3", "v2"]


@properties
@given(st.dictionaries(st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,3})?", fullmatch=True), weight, min_size=1))
def test_routes_are_read_back(weights: dict[str, float]) -> None:
    assume(all(weights.values()))
    assert parse_route(spell_route(weights)) == weights


@pytest.mark.parametrize(
    ("text", "weights"),
    [("v1.100", {"v1": 100}), ("v1.90,v2.10", {"v1": 90, "v2": 10}), ("v1.12.5,v2.0,1.87.5", {"v1": 12.5, "1": 87.5})],
)
def test_routes_are_read_as_the_plan_writes_them(text: str, weights: dict[str, float]) -> None:
    assert parse_route(text) == weights


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "v1.",
        ".5",
        "v1.90,v1.10",
        "v1.-1",
        "v1.nan",
        "v1.inf",
        "v1.0,v2.0",
        "v1.1e308,v2.1e308",
        "v1.1,",
        "graph",
        "v1.1;v2.2",
    ],
)
def test_invalid_routes_are_rejected(text: str) -> None:
    with pytest.raises(RouteError):
        parse_route(text)


@pytest.mark.parametrize(
    ("error", "status", "is_worth"),
    [
        ("", 200, False),
        ("", 404, False),
        ("", 429, False),
        ("", 500, True),
        ("", 503, True),
        ("failed", 0, True),
        ("timed_out", 0, True),
        ("throttled", 0, True),
        ("unknown_function", 0, True),
        ("too_large", 0, False),
        ("request_too_large", 0, False),
    ],
)
def test_only_some_failures_are_worth_another_version(error: str, status: int, is_worth: bool) -> None:
    assert is_worth_fallback(error, status) is is_worth


def test_hops_are_counted_and_copies_stay_copies() -> None:
    event = {"body": "x"}
    assert (read_hop(event), is_shadow(event)) == (0, False)
    once = handed_on(event)
    assert (read_hop(once), is_shadow(once), once["body"]) == (1, False, "x")
    copy = handed_on(once, shadow=True)
    assert (read_hop(copy), is_shadow(copy)) == (2, True)
    assert is_shadow(handed_on(copy))
    assert event == {"body": "x"}
